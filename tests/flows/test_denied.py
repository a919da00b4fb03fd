"""Where a machine denies what the sandbox is made of, the doctor names the cause, the exact remedy, and the tier that is left."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.denied import in_a

DOCKER = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
# Tests may run in a container themselves, which no view of the files can hide.
FILTERED = (
    ("the container refuses namespaces", DOCKER)
    if Path("/.dockerenv").exists()
    else ("a seccomp filter refuses namespaces", "RestrictNamespaces=no")
)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder, "state")


@pytest.mark.parametrize(
    ("place", "denied", "tier", "cause", "remedy"),
    [
        ("machine", [], 4, "", ""),
        ("machine", ["namespaces"], 3, *FILTERED),
        ("machine", ["landlock=4"], 4, "Landlock ABI 4, and 6 is needed", "boot Linux 6.12 or newer"),
        ("machine", ["namespaces", "landlock=4"], 2, *FILTERED),
        (
            "machine with AppArmor",
            ["namespaces"],
            3,
            "AppArmor refuses user namespaces",
            "profile palyra-trio-bwrap /usr/bin/bwrap flags=(unconfined) {",
        ),
        (
            "container",
            ["namespaces"],
            3,
            "the container refuses namespaces",
            DOCKER,
        ),
        (
            "container that hides /proc",
            [],
            3,
            "the container hides parts of /proc",
            "docker run --security-opt systempaths=unconfined",
        ),
    ],
)
def test_the_doctor_names_the_cause_and_the_remedy(
    state_dir: Path, place: str, denied: list[str], tier: int, cause: str, remedy: str
) -> None:
    looked = in_a(place, *denied, "--", "doctor", "--json", state_dir=state_dir)
    assert looked.returncode == 0, looked.stderr  # it works, and could work better
    (found,) = (each for each in json.loads(looked.stdout)["checks"] if each["name"] == "sandbox")
    assert found["what"].startswith(f"sandbox tier {tier} ")
    assert found["health"] == ("ok" if tier == 4 else "warning")
    if cause:
        lines = found["remedy"].splitlines()
        about = next(number for number, line in enumerate(lines) if cause in line)
        assert lines[about].startswith("not available: ")
        rest = lines[about + 1 :]
        assert remedy in "\n".join(rest)
        assert rest[0].startswith("  ")


def test_a_person_reads_them_beneath_the_tier(state_dir: Path) -> None:
    looked = in_a("machine", "namespaces", "--", "doctor", state_dir=state_dir)
    assert looked.returncode == 0
    lines = looked.stdout.splitlines()
    about = next(number for number, line in enumerate(lines) if line.startswith("warning  sandbox"))
    cause, remedy = FILTERED
    assert f"not available: 4 isolated: {cause}" in lines[about + 1]
    assert remedy in lines[about + 2]
