"""What a sandboxed program sees of the machine: system folders to read, its workspace to change, a few files of /etc.

The same for every tier that can hold it to that. Looks at the machine once, when the sandbox is made.
"""

import os
import shutil
from collections.abc import Sequence

import attrs

PATH = ("/usr/local/bin", "/usr/bin", "/bin")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs look up and nobody keeps secrets in, as few as will do: each costs the start of a program a mount.
_ETC = (
    "alternatives",
    "java",
    "ld.so.cache",
    "localtime",
    "pki/ca-trust",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/openssl.cnf",
)
# Made up where the tier can do that.
NAMES = ("/etc/passwd", "/etc/group", "/etc/hosts")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PROC_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/version")


@attrs.frozen
class View:
    """`folders` and `etc` exist and may be read, `links` are (path, what it points to) of the root folder.

    `read_only` are the folders of the configuration, such as toolchains under the home folder; `path` is where programs
    are looked for, in order. `home` is hidden, apart from what of it is named otherwise.
    """

    folders: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    etc: tuple[str, ...]
    read_only: tuple[str, ...]
    path: tuple[str, ...]
    home: str

    @property
    def readable(self) -> tuple[str, ...]:
        return (*self.folders, *self.read_only)

    def which(self, name: str, cwd: str) -> str | None:
        """Return the absolute path of a program, None where there is none. A name with a slash starts at `cwd`."""
        if "/" in name:
            path = os.path.normpath(os.path.join(cwd, name))
            return path if os.access(path, os.X_OK) and os.path.isfile(path) else None
        return shutil.which(name, path=os.pathsep.join(self.path))

    def shows(self, path: str, workspace: str) -> bool:
        """Return whether a program of this workspace sees `path`, which is absolute: it, and where its links lead."""
        roots = (*self.readable, *(link for link, _ in self.links), workspace)
        return all(any(is_beneath(each, root) for root in roots) for each in (path, os.path.realpath(path)))

    def environment(self, workspace: str) -> dict[str, str]:
        """Return the environment of every program, which is built from nothing."""
        return {
            "PATH": os.pathsep.join(self.path),
            "HOME": self.home,
            "PWD": workspace,
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TMPDIR": "/tmp",
        }


def look(home: str, read_only: Sequence[str] = (), path: Sequence[str] = ()) -> View:
    """Look at this machine. `read_only` and `path` are absolute folders of the configuration; `path` comes first."""
    there = [each for each in _SYSTEM if os.path.lexists(each)]
    etc = (f"/etc/{each}" for each in _ETC)
    return View(
        tuple(each for each in there if not os.path.islink(each)),
        tuple((each, os.readlink(each)) for each in there if os.path.islink(each)),
        tuple(each for each in etc if os.path.exists(each)),
        tuple(each for each in read_only if os.path.exists(each)),
        (*path, *PATH),
        home,
    )


def is_beneath(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
