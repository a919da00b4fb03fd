"""A workspace, and a way to run a program in it at tier 4 with its changes captured, as `process.run` does.

Also a program: `python -m tests.tools.layered SCRIPT` runs a shell script so, as whoever starts it, and tells as JSON what
was recorded and what the workspace holds then, and with `... SCRIPT undo` whether undoing that gave back what was before;
`... SCRIPT hold STATE` says `ready` when the script does, and waits.
"""

import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.capture import Capture, captured
from palyra_trio.tools.job import Bounds, Job, Outcome, SandboxFailed
from palyra_trio.tools.overlay import Layers
from palyra_trio.tools.registry import ToolContext
from palyra_trio.tools.sandbox import Sandbox, SandboxSettings, open_sandbox
from palyra_trio.tools.undo import undo
from palyra_trio.tools.workspace import Workspace

NOBODY = 65534
SHELL = "/usr/bin/bash"


def within_reach(folder: Path) -> None:
    """Let the user that programs run as get to a folder, where that is not this one."""
    if os.geteuid() == 0:
        for each in folder.parents:
            if each.stat().st_uid == 0 and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)


def for_all(folder: Path) -> None:
    """Let that user have a folder."""
    if os.geteuid() == 0:
        within_reach(folder)
        for each in (folder, *folder.rglob("*")):
            os.chown(each, NOBODY, NOBODY, follow_symlinks=False)


@attrs.define
class Bench:
    """A sandbox that captures, a workspace, and what was recorded: events, and the blobs by their digests."""

    sandbox: Sandbox
    root: Path
    events: list[FilesChanged] = attrs.Factory(list)
    blobs: dict[str, bytes] = attrs.Factory(dict)
    said: bytearray = attrs.Factory(bytearray)
    ready: trio.Event = attrs.Factory(trio.Event)

    @property
    def changes(self) -> list[FileChange]:
        return [change for event in self.events for change in event.changes]

    @property
    def layers(self) -> Layers:
        assert isinstance(self.sandbox.layers, Layers), self.sandbox.layers
        return self.sandbox.layers

    def kept(self) -> list[Path]:
        """Return what the layers hold."""
        return list(Path(self.layers.folder).glob("*/upper/*"))

    async def record(self, event: FilesChanged, blobs: Mapping[str, bytes]) -> None:
        self.events.append(event)
        self.blobs |= blobs
        await trio.lowlevel.checkpoint()

    def job(self, script: str) -> Job:
        argv = ("bash", "-c", script)
        return Job(SHELL, argv, str(self.root), str(self.root), secrets.token_hex(16), bounds=Bounds())

    async def launch(self, capture: Capture) -> Outcome:
        def take(_stream: str, data: bytes) -> None:
            self.said.extend(data)
            if b"ready" in self.said:
                self.ready.set()

        try:
            return await self.sandbox.run(capture.job, 4, take, lambda receipt: None)
        except SandboxFailed as error:
            error.add_note(self.said.decode(errors="replace"))
            raise

    @asynccontextmanager
    async def capturing(self, script: str) -> AsyncGenerator[Capture]:
        with Workspace.open(self.root) as workspace:
            context = ToolContext(workspace, lambda: 0.0, "call", changed=self.record)
            async with captured(self.layers, self.job(script), context, trio.CapacityLimiter(2)) as capture:
                yield capture

    async def run(self, script: str) -> tuple[str, ...]:
        """Run a script to its end, and bring what it changed."""
        with trio.fail_after(60):
            async with self.capturing(script) as capture:
                outcome = await self.launch(capture)
                assert outcome.code == 0, self.said.decode()
                return await capture.bring()


@asynccontextmanager
async def bench(root: Path, layers_in: Path) -> AsyncGenerator[Bench]:
    for_all(root)
    within_reach(layers_in)
    settings = SandboxSettings(user=str(NOBODY) if os.geteuid() == 0 else "")
    async with open_sandbox(settings, Path("/home/me"), layers_in=[layers_in]) as sandbox:
        yield Bench(sandbox, root)


def whiteout(path: Path) -> None:
    """Put into a layer what overlayfs does where something was removed."""
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def tree(root: Path) -> dict[str, str]:
    """Return all that a folder holds, by path: what it is, its permissions, and its content."""
    told = {}
    for each in sorted(root.rglob("*")):
        mode = oct(each.lstat().st_mode)[2:]
        if each.is_symlink():
            content = os.readlink(each)
        else:
            content = each.read_text(errors="replace") if each.is_file() and os.access(each, os.R_OK) else ""
        told[str(each.relative_to(root))] = f"{mode} {content}"
    return told


async def _show(script: str, *, undone: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "work").mkdir()
        (folder / "work" / "old").write_text("old\n")
        shut = folder / "work" / "shut"
        shut.mkdir()
        (shut / "in").write_text("in\n")
        shut.chmod(0o555)
        before = tree(folder / "work")
        async with bench(folder / "work", folder / "layers") as made:
            said = await made.run(script)
            told: dict[str, object] = {
                "said": said,
                "changes": [attrs.asdict(change) for change in made.changes],
                "tree": tree(made.root),
                "kept": list(map(str, made.kept())),
            }
            if undone:
                with Workspace.open(made.root) as workspace:
                    undo(workspace, made.changes, made.blobs.__getitem__)
                told["undone"] = tree(made.root) == before
            print(json.dumps(told))
    finally:
        if shut.exists():
            shut.chmod(0o755)
        shutil.rmtree(folder)


async def _hold(script: str, folder: Path) -> None:
    async with bench(folder / "work", folder / "layers") as made, made.capturing(script) as capture:

        async def tell() -> None:
            await made.ready.wait()
            print("ready", flush=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await made.launch(capture)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        trio.run(partial(_show, sys.argv[1], undone=len(sys.argv) == 3))
    else:
        trio.run(_hold, sys.argv[1], Path(sys.argv[3]))
