"""A layer over the workspace for one job: the job writes there, and the workspace stays as it is until that is brought.

Layers are made by bubblewrap (0.11) of overlayfs, in a folder that no program sees. Whether that works is tried, with
each bubblewrap and folder there is, and for each workspace. What a killed process left is cleared at the next start.
"""

import hashlib
import os
import re
import secrets
import shutil
import stat
import subprocess
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from palyra_trio.tools.view import is_beneath

_TRIAL_S = 10.0
_REMEMBERED = 256  # workspaces
_OWN_CLOCK = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "fuse")
_OCTAL = re.compile(r"\\([0-7]{3})")
NOT_ASKED_FOR = "this process keeps no layers"


@attrs.frozen
class Layer:
    """Folders for what a job writes (`upper`) and for overlayfs itself (`work`). `began_ns` is when they were made."""

    upper: str
    work: str
    began_ns: int

    def options(self, workspace: str) -> list[str]:
        """Return the options of bubblewrap that put the layer over the workspace."""
        return ["--overlay-src", workspace, "--overlay", self.upper, self.work, workspace]


@attrs.frozen
class Layers:
    """Makes layers in `folder`, with a bubblewrap that was proven to. `user` is who runs programs, where that is another."""

    bwrap: Path
    folder: str
    user: int | None = None
    _tried: dict[str, str] = attrs.field(factory=dict, init=False)
    _spare: list[Path] = attrs.field(factory=list, init=False)

    def unfit(self, workspace: str) -> str:
        """Return why there can be no layer over a workspace, "" where there can. Tries it once. Blocks."""
        if is_beneath(self.folder, workspace) or is_beneath(workspace, self.folder):
            return f"the layers are kept in {self.folder}, which is in the workspace"
        if reason := _mounts(workspace, Path("/proc/self/mountinfo").read_text(errors="surrogateescape")):
            return reason
        if workspace not in self._tried:
            while len(self._tried) >= _REMEMBERED:
                del self._tried[next(iter(self._tried))]
            with self.layer(workspace) as layer:
                said = _try(self.bwrap, self.user, layer, workspace, ["/bin/true"])
            self._tried[workspace] = f"bubblewrap cannot put a layer over it: {said}" if said else ""
        return self._tried[workspace]

    @contextmanager
    def layer(self, workspace: str) -> Generator[Layer]:
        """Give a layer, and clear it at the end of the block, whatever is in it. Blocks. Raises OSError.

        Its folders are used again: to make and remove them takes longer (measured: milliseconds on ext4) than all else.
        """
        root = self._spare.pop() if self._spare else self._make()
        upper = root / "upper"
        try:
            upper.chmod(stat.S_IMODE(os.stat(workspace).st_mode) & 0o777)
            yield Layer(str(upper), str(root / "work"), upper.stat().st_ctime_ns)
        finally:
            clear(str(upper), itself=False)
            self._spare.append(root)

    def close(self) -> None:
        """Remove the folders. Blocks. None may be in use."""
        while self._spare:
            clear(str(self._spare.pop()))
        if _is_ours(Path(self.folder)):
            with suppress(OSError):  # another process keeps layers there too
                os.rmdir(self.folder)

    def _make(self) -> Path:
        root = Path(self.folder, secrets.token_hex(8))
        root.mkdir(0o711)
        for each in (root / "upper", root / "work"):
            each.mkdir(0o700)
            if self.user is not None:
                os.chown(each, self.user, self.user)
        return root


def places(state_dir: Path) -> tuple[Path, ...]:
    """Return the folders in which layers may be kept, the best first: where root keeps its state no other user comes."""
    name = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    return state_dir / "layers", Path("/var/tmp", f"palyra-trio-{os.geteuid()}-{name}")


def sweep(folders: Iterable[Path]) -> None:
    """Clear what earlier processes left there. For who holds the state directory, before it makes layers. Blocks."""
    for folder in folders:
        if _is_ours(folder):
            for each in os.listdir(folder):
                clear(str(folder / each))


def prove(bubblewraps: Iterable[Path], folders: Sequence[Path], user: int | None) -> Layers | str:
    """Return what makes layers here, or why nothing does. Blocks."""
    reason = "there is no bubblewrap"
    for bwrap in bubblewraps:
        for folder in folders:
            layers = Layers(bwrap, str(folder), user)
            try:
                folder.mkdir(0o711, exist_ok=True)
                reason = _proof(layers) if _is_ours(folder) else f"{folder} is not this user's own"
            except OSError as error:
                reason = str(error)
            if not reason:
                return layers
            layers.close()
    return reason


def clear(folder: str, *, itself: bool = True) -> int:
    """Remove all that a program has written to a folder, and the folder `itself`. Returns how many names it held. Blocks.

    However deep it is, whatever permissions it has, and however many names: folders in it are brought up to its own level.
    """
    count = 0
    fd = _open_folder(folder)
    try:
        for mark in os.listxattr(fd):
            os.removexattr(fd, mark)
        while removed := sum(_remove(fd, name, is_folder=is_folder) for name, is_folder in _listed(fd)):
            count += removed
    finally:
        os.close(fd)
    if itself:
        os.rmdir(folder)
    return count


def _listed(folder: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the names in a folder, and of each whether it is a folder: one by one, since there may be millions."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)


def _remove(top: int, name: bytes, *, is_folder: bool) -> int:
    """Remove a name in the folder `top`, and return how many went; folders in it are moved to `top`."""
    if not is_folder:
        os.unlink(name, dir_fd=top)
        return 1
    count = 1
    fd = _open_folder(name, top)
    try:
        for below, is_below in _listed(fd):
            if is_below:
                os.close(_open_folder(below, fd))  # to move it is to write to it
                os.rename(below, secrets.token_hex(8), src_dir_fd=fd, dst_dir_fd=top)
            else:
                os.unlink(below, dir_fd=fd)
                count += 1
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)
    return count


def _open_folder(name: str | bytes, folder: int | None = None) -> int:
    """Open a folder, after giving its owner every right to it. Follows no symlink."""
    held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{held}", 0o700)
        return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(held)


def _is_ours(folder: Path) -> bool:
    """Whether a folder is one that nobody else could have made or can write to."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _proof(layers: Layers) -> str:
    """Return why no layer can be made, "" where a file that is given other permissions lands in it with its content."""
    with _scratch(layers) as lower, layers.layer(str(lower)) as layer:
        file = lower / "file"
        file.write_text("content")
        if layers.user is not None:
            os.chown(file, layers.user, layers.user)
        said = _try(layers.bwrap, layers.user, layer, str(lower), ["/bin/chmod", "600", str(file)])
        if said:
            return said
        brought = Path(layer.upper, "file")
        if not brought.is_file() or brought.read_text() != "content":
            return "the layers of this kernel do not hold what was changed"
    return ""


@contextmanager
def _scratch(layers: Layers) -> Generator[Path]:
    folder = Path(layers.folder, secrets.token_hex(8))
    folder.mkdir(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _try(bwrap: Path, user: int | None, layer: Layer, workspace: str, argv: Sequence[str]) -> str:
    """Run a program with a layer over a workspace, and return "", or what was said when that failed."""
    become = [] if user is None else ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    words = [*become, str(bwrap), "--unshare-user", "--ro-bind", "/", "/", *layer.options(workspace), "--", *argv]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, env={}, cwd="/", timeout=_TRIAL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"it ended with {done.returncode}")


def _mounts(workspace: str, mountinfo: str) -> str:
    """Return why the mounts of this machine (proc_pid_mountinfo(5)) forbid a layer over a workspace, or ""."""
    holding, kind = "", ""
    for line in mountinfo.splitlines():
        first, _, second = line.partition(" - ")
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), first.split(" ")[4])
        if point != workspace and is_beneath(point, workspace):
            return f"another file system is mounted in it, at {point}"
        if is_beneath(workspace, point) and len(point) >= len(holding):
            holding, kind = point, second.split(" ")[0]
    if kind.partition(".")[0] in _OWN_CLOCK:
        return f"its file system ({kind}) goes by another clock"
    return ""
