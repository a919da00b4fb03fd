import pytest

from palyra_trio.tools import sandbox_report
from palyra_trio.tools.sandbox_report import Host, SandboxReport, TierReport, not_isolated

SAID = "bwrap: setting up uid map: Permission denied\n"


def report(*available: int) -> SandboxReport:
    return SandboxReport(
        tuple(TierReport(tier, tier in available, ("x", "y"), "because", "do this") for tier in (4, 3, 2, 1))
    )


def test_the_strongest_tier_that_can_be_had_is_in_force() -> None:
    assert report(4, 3, 2).tier == 4
    assert report(3, 2, 1).tier == 3
    assert report().tier == 0
    assert report(3).in_force == "sandbox tier 3 confined (x, y)"
    assert report().in_force == "no sandbox: no program can be run"


def test_a_person_reads_what_is_in_force_and_why_the_rest_is_not() -> None:
    assert report(3, 2, 1).lines() == (
        "sandbox tier 3 confined (x, y)",
        "not available: 4 isolated: because",
        "  do this",
    )


@pytest.mark.parametrize(
    ("host", "reason", "remedy"),
    [
        (Host(max_user_namespaces=0), "switched off", "sysctl -w user.max_user_namespaces"),
        (Host(userns_clone=0), "for root only", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (Host(apparmor_restricts=True), "AppArmor", "profile palyra-trio-bwrap /opt/bwrap flags=(unconfined) {"),
        (Host(container=True), "the container refuses namespaces", "seccomp=unconfined"),
        (Host(container=True), "the container refuses namespaces", "apparmor=unconfined"),
        (Host(container=True, filtered=True), "the container refuses namespaces", "procMount Unmasked"),
        (Host(filtered=True), "a seccomp filter refuses namespaces", "RestrictNamespaces=no"),
        (Host(), "/opt/bwrap could not make a sandbox", "bwrap --unshare-all"),
    ],
)
def test_the_cause_and_the_remedy_are_named(host: Host, reason: str, remedy: str) -> None:
    found = not_isolated("/opt/bwrap", SAID, host)
    assert not found.available
    assert reason in found.reason
    assert SAID.strip() in found.reason
    assert remedy in found.remedy


def test_a_container_that_hides_proc_is_told_from_one_that_refuses_namespaces() -> None:
    found = not_isolated(
        "/opt/bwrap", "bwrap: Can't mount proc on /newroot/proc: Operation not permitted", Host(container=True)
    )
    assert "systempaths=unconfined" in found.remedy
    assert "seccomp" not in found.remedy


def test_an_old_landlock_names_the_version_that_is_needed() -> None:
    assert "ABI 4, and 6 is needed" in sandbox_report.too_old_landlock(4).reason
    assert "no Landlock" in sandbox_report.too_old_landlock(0).reason


def test_a_tier_with_a_hole_names_the_hole() -> None:
    found = sandbox_report.escaped(4, ["read a file outside", "outlive a kill"])
    assert not found.available
    assert found.reason == "a program in it could read a file outside, outlive a kill"
