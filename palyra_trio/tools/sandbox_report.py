"""What is said of the sandbox: which tier is in force, what holds it, and, of each that is not to be had, why and what to do.

Pure. What was found out about this machine is handed in.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import attrs

from palyra_trio.tools.landlock import ABI_NEEDED

NAMES: Mapping[int, str] = {4: "isolated", 3: "confined", 2: "contained", 1: "bare", 0: "none"}
_APPARMOR = """\
abi <abi/4.0>,
include <tunables/global>
profile palyra-trio-bwrap {bwrap} flags=(unconfined) {{
  userns,
}}
"""
_UNFILTERED = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
_UNMASKED = "--security-opt systempaths=unconfined"


@attrs.frozen
class TierReport:
    """One tier: whether it can be had, the `mechanisms` that make it, or the reason why not and the remedy."""

    tier: int
    available: bool
    mechanisms: tuple[str, ...] = ()
    reason: str = ""
    remedy: str = ""

    @property
    def name(self) -> str:
        return NAMES[self.tier]

    def __str__(self) -> str:
        return f"tier {self.tier} {self.name} ({', '.join(self.mechanisms)})"


@attrs.frozen
class SandboxReport:
    """All tiers, the strongest first. `tier` is the one in force, 0 when no program can be run, or nobody knows yet."""

    tiers: tuple[TierReport, ...]
    known: bool = True

    @property
    def tier(self) -> int:
        return next((each.tier for each in self.tiers if each.available), 0)

    @property
    def in_force(self) -> str:
        if not self.known:
            return "the sandbox is probed before the first program runs"
        return f"sandbox {self.of(self.tier)}" if self.tier else "no sandbox: no program can be run"

    def of(self, tier: int) -> TierReport:
        return next(each for each in self.tiers if each.tier == tier)

    def lines(self) -> tuple[str, ...]:
        """Return the report as a person reads it: the tier in force, then of each why it is not."""
        lines = [self.in_force]
        missing = [each for each in self.tiers if not each.available]
        for (reason, remedy), alike in groupby(missing, key=lambda each: (each.reason, each.remedy)):
            tiers = ", ".join(f"{each.tier} {each.name}" for each in alike)
            lines.append(f"not available: {tiers}: {reason}")
            lines += [f"  {line}" for line in remedy.splitlines()]
        return tuple(lines)


@attrs.frozen
class Host:
    """What this machine says of user namespaces, each None where it says nothing, and what holds this process itself."""

    apparmor_restricts: bool = False
    max_user_namespaces: int | None = None
    userns_clone: int | None = None
    container: bool = False
    filtered: bool = False


def not_probed() -> SandboxReport:
    """Return what is said of the sandbox before the canaries are back."""
    return SandboxReport((), known=False)


def not_opened() -> SandboxReport:
    return SandboxReport(
        tuple(TierReport(tier, False, reason="this process runs no programs") for tier in (4, 3, 2, 1))
    )


def no_bubblewrap() -> TierReport:
    return TierReport(
        4,
        False,
        reason="there is no bubblewrap",
        remedy="apt install bubblewrap, or pip install 'palyra-trio[sandbox]'",
    )


def not_isolated(bwrap: str, said: str, host: Host) -> TierReport:
    """Return why bubblewrap could not make the sandbox, by what it said and what the machine is set to."""
    said = said.strip() or "it said nothing"
    if host.max_user_namespaces == 0:
        reason, remedy = "user namespaces are switched off", "sysctl -w user.max_user_namespaces=15000"
    elif host.userns_clone == 0:
        reason, remedy = "user namespaces are for root only", "sysctl -w kernel.unprivileged_userns_clone=1"
    elif host.apparmor_restricts:
        reason = "AppArmor refuses user namespaces to programs without a profile"
        remedy = (
            "write this to /etc/apparmor.d/palyra-trio-bwrap, then apparmor_parser -r /etc/apparmor.d/palyra-trio-bwrap:\n"
            + _APPARMOR.format(bwrap=bwrap)
        )
    elif host.container and "proc" in said:
        reason = "the container hides parts of /proc, so that no other may be mounted"
        remedy = f"docker run {_UNMASKED}\npodman run --security-opt unmask=ALL"
    elif host.container:
        reason = "the container refuses namespaces"
        remedy = (
            f"docker run {_UNFILTERED} {_UNMASKED}\n"
            f"podman run {_UNFILTERED} --security-opt unmask=ALL\n"
            "Kubernetes: seccompProfile Unconfined, appArmorProfile Unconfined and procMount Unmasked in securityContext"
        )
    elif host.filtered:
        reason = "a seccomp filter refuses namespaces to this process"
        remedy = (
            "in the unit of a systemd service: RestrictNamespaces=no, and no SystemCallFilter without @mount\n"
            f"in a container: docker run {_UNFILTERED} {_UNMASKED}"
        )
    else:
        reason, remedy = (
            f"{bwrap} could not make a sandbox",
            "run it by hand to see why: bwrap --unshare-all --ro-bind / / true",
        )
    return TierReport(4, False, reason=f"{reason}; bubblewrap said: {said}", remedy=remedy)


def too_old_landlock(abi: int) -> TierReport:
    if abi == 0:
        reason = "this kernel has no Landlock, or it is switched off"
        remedy = f"boot a kernel with Landlock ABI {ABI_NEEDED} (Linux 6.12) and with landlock in its lsm= parameter"
    else:
        reason = f"this kernel has Landlock ABI {abi}, and {ABI_NEEDED} is needed to keep signals and abstract sockets inside"
        remedy = f"boot Linux 6.12 or newer, which has ABI {ABI_NEEDED}"
    return TierReport(3, False, reason=reason, remedy=remedy)


def unknown_machine(tier: int, machine: str) -> TierReport:
    return TierReport(tier, False, reason=f"there is no seccomp filter for {machine}", remedy="use x86_64 or aarch64")


def as_root(tier: int) -> TierReport:
    return TierReport(
        tier,
        False,
        reason="the daemon runs as root, and no program is run as root",
        remedy="run the daemon as another user, or set sandbox.user to one that is to run programs: "
        'useradd --system palyra-tools, then user = "palyra-tools" under [sandbox]',
    )


def switched_off() -> TierReport:
    return TierReport(1, False, reason="it holds nothing back, so it is off", remedy="set sandbox.bare to allow it")


def escaped(tier: int, attempts: Sequence[str]) -> TierReport:
    """Return that a canary did what it must not: a tier with a hole is not used."""
    done = ", ".join(attempts)
    return TierReport(
        tier,
        False,
        reason=f"a program in it could {done}",
        remedy="this is a fault of this program or of the kernel: report it",
    )
