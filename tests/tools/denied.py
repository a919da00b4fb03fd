"""The program on a machine that denies it something: `python -m tests.tools.denied WHAT... -- ARGUMENTS`.

WHAT is `namespaces` (a seccomp filter like a container's refuses them) or `landlock=ABI` (the kernel has that version).
What takes another view of the files (`in_a`) is done before, in a mount namespace, by root.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from palyra_trio.cli.main import main
from palyra_trio.tools import landlock, spawner
from palyra_trio.tools.seccomp import filter_bytes
from tests.tools.zoo import NOBODY, environment, system_python

# A view of the files, made by root in a mount namespace of its own.
PLACES: Mapping[str, str] = {
    "machine": "true",
    # What is only named here stands for a kernel with AppArmor, whose refusal is a filter's.
    "machine with AppArmor": "mount -t tmpfs none /proc/sys/kernel"
    " && echo 1 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "container": "mount -t tmpfs none /run && touch /run/.containerenv",
    # The kernel mounts no other /proc where some of this one is covered, as docker covers some.
    "container that hides /proc": "mount -t tmpfs none /run && touch /run/.containerenv && mount -t tmpfs none /proc/fs",
}


def in_a(place: str, *arguments: str, state_dir: Path) -> "subprocess.CompletedProcess[str]":
    """Run this program, with the packages of this Python, as another user at such a place."""
    script = f'set -e; mount --make-rprivate /; {PLACES[place]}; exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", system_python(), "-P", "-m", "tests.tools.denied", *arguments],
        env={**environment(), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PALYRA_STATE_DIR": str(state_dir)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def deny(what: str) -> None:
    name, _, value = what.partition("=")
    if name == "landlock":
        landlock.kernel_abi = lambda: int(value)
    else:
        spawner.call("prctl", spawner.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        spawner.filtered(filter_bytes(sockets=True))


if __name__ == "__main__":
    end = sys.argv.index("--")
    for each in sys.argv[1:end]:
        deny(each)
    sys.argv[1:] = sys.argv[end + 1 :]
    main()
