import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import StateConflict
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.tape import FileChange
from palyra_trio.tools import capture as capture_module
from palyra_trio.tools.capture import capture_in_words, captured
from palyra_trio.tools.job import Job
from palyra_trio.tools.overlay import sweep
from palyra_trio.tools.overlay_reading import Reading
from palyra_trio.tools.registry import ToolContext
from palyra_trio.tools.undo import diff, undo
from palyra_trio.tools.workspace import Workspace
from tests.tools import layered, zoo
from tests.tools.layered import Bench, bench, for_all, tree

FILE, LINK, FOLDER = stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that another user can get to at all times, which those of pytest are not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
async def made(root: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    (root / "a").write_text("one\n")
    (root / "b").write_text("two\n")
    (root / "sub").mkdir()
    (root / "sub" / "c").write_text("three\n")
    (root / "link").symlink_to("a")
    async with bench(root, tmp_path / "layers") as made:
        yield made


def undone(made: Bench) -> None:
    with Workspace.open(made.root) as workspace:
        undo(workspace, made.changes, made.blobs.__getitem__)


EVERY_KIND = """
echo more >>a; rm b; mv sub/c sub/d; chmod 755 a; ln -sf /etc/passwd link; mkdir -p new/empty; echo x >new/f
ln -s nowhere dangling; printf '\\0\\1' >bin
"""


async def test_every_kind_of_change_is_captured_shown_and_undone(made: Bench) -> None:
    before = tree(made.root)
    said = await made.run(EVERY_KIND)
    assert {change.path for change in made.changes} == {
        *("a", "b", "sub/c", "sub/d", "link", "new", "new/empty", "new/f", "dangling", "bin")
    }
    assert (made.root / "a").read_text() == "one\nmore\n"
    assert stat.S_IMODE((made.root / "a").stat().st_mode) == 0o755
    assert os.readlink(made.root / "link") == "/etc/passwd"
    assert not (made.root / "b").exists()
    assert "deleted b" in said
    assert "changed symlink link" in said
    assert "created folder new/empty" in said
    shown = diff(made.changes, made.blobs.__getitem__)
    for line in (
        "old mode 100644",
        "new mode 100755",
        "+more",
        "--- a/b",
        "-/etc",
        "Folder new/empty created",
        "Binary file bin",
    ):
        assert line.removeprefix("-/etc") in shown
    assert "Folder new created" not in shown
    undone(made)
    assert tree(made.root) == before
    assert made.kept() == []


async def test_the_workspace_stays_as_it_was_until_the_program_has_ended(made: Bench) -> None:
    async with made.capturing("echo new >a; cat a; echo ready; read </dev/zero || true; sleep 0.3") as capture:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await made.launch(capture)

            nursery.start_soon(run)
            await made.ready.wait()
            assert b"new\n" in made.said
            assert (made.root / "a").read_text() == "one\n"
            nursery.cancel_scope.cancel()
    assert (made.root / "a").read_text() == "one\n"


async def test_a_killed_program_changes_nothing_and_the_tape_counts_what_was_thrown_away(made: Bench) -> None:
    before = tree(made.root)
    with trio.CancelScope() as scope:
        async with made.capturing("rm -r sub; echo half >a; mkdir d; touch d/e; echo ready; sleep 60") as capture:
            async with trio.open_nursery() as nursery:

                async def run() -> None:
                    await made.launch(capture)

                nursery.start_soon(run)
                await made.ready.wait()
                scope.cancel()
    assert scope.cancelled_caught
    assert tree(made.root) == before
    assert made.events == [FilesChanged("call", discarded=4)]
    assert made.kept() == []


async def test_what_somebody_else_changed_meanwhile_is_not_lost(made: Bench) -> None:
    async with made.capturing("echo the program >a; echo fresh >fresh") as capture:
        await made.launch(capture)
        (made.root / "a").write_text("a person\n")
        with pytest.raises(StateConflict, match=r"by the program too: a \("):
            await capture.bring()
    assert (made.root / "a").read_text() == "a person\n"
    assert not (made.root / "fresh").exists()
    assert made.events == [FilesChanged("call", discarded=2)]


@pytest.mark.parametrize(
    ("script", "by_others"),
    [
        ("rm a", lambda root: (root / "a").write_text("theirs")),
        ("rm -r sub", lambda root: (root / "sub" / "theirs").write_text("theirs")),
        ("rm -r sub; echo f >sub", lambda root: (root / "sub" / "c").write_text("theirs")),
        ("rm -r sub; mkdir sub", lambda root: (root / "sub" / "c").write_text("theirs")),
        ("echo x >fresh", lambda root: (root / "fresh").write_text("theirs")),
        ("mkdir fresh", lambda root: (root / "fresh").write_text("theirs")),
    ],
)
async def test_no_kind_of_change_takes_somebody_elses_away(made: Bench, script: str, by_others: object) -> None:
    assert callable(by_others)
    async with made.capturing(script) as capture:
        await made.launch(capture)
        by_others(made.root)
        before = tree(made.root)
        with pytest.raises(StateConflict):
            await capture.bring()
    assert tree(made.root) == before


async def test_what_others_do_to_other_files_meanwhile_is_no_conflict(made: Bench) -> None:
    async with made.capturing("echo x >sub/new") as capture:
        await made.launch(capture)
        (made.root / "a").write_text("theirs")
        (made.root / "sub" / "c").write_text("theirs")
        await capture.bring()
    assert [change.path for change in made.changes] == ["sub/new"]
    assert (made.root / "a").read_text() == "theirs"


async def test_undo_is_refused_when_somebody_changed_it_since(made: Bench) -> None:
    await made.run("echo new >a; chmod 700 b")
    (made.root / "b").chmod(0o750)
    with pytest.raises(StateConflict, match="by somebody else: b;"):
        undone(made)
    assert (made.root / "a").read_text() == "new\n"


async def test_a_folder_that_holds_something_else_now_stays(made: Bench) -> None:
    await made.run("mkdir d; echo x >d/x")
    (made.root / "d" / "theirs").write_text("theirs")
    undone(made)
    assert os.listdir(made.root / "d") == ["theirs"]


async def test_a_file_may_become_a_folder_and_a_folder_a_file(made: Bench) -> None:
    before = tree(made.root)
    await made.run("rm a; mkdir a; echo x >a/x; rm -r sub; echo file >sub; rm link; mkdir link; rm -r b; ln -s a b")
    assert (made.root / "a" / "x").read_text() == "x\n"
    assert (made.root / "sub").read_text() == "file\n"
    assert os.readlink(made.root / "b") == "a"
    undone(made)
    assert tree(made.root) == before


async def test_a_folder_that_was_replaced_has_nothing_of_the_old_one(made: Bench) -> None:
    before = tree(made.root)
    await made.run("rm -r sub; mkdir -p sub/deep; echo y >sub/deep/y")
    assert not (made.root / "sub" / "c").exists()
    undone(made)
    assert tree(made.root) == before


async def test_what_was_only_read_or_written_as_it_was_is_no_change(made: Bench) -> None:
    said = await made.run("cat a b sub/c >/dev/null; cp a t; cat t >a; rm t; : >>b; ls -R >/dev/null")
    assert made.events == []
    assert said == ()


async def test_a_new_time_alone_reaches_the_workspace_for_make(made: Bench) -> None:
    await made.run("touch -d 2001-02-03 a")
    assert made.events == []
    assert (made.root / "a").stat().st_mtime < 1e9


async def test_nothing_that_may_harm_is_brought(made: Bench) -> None:
    said = await made.run(
        "cp /usr/bin/true su; chmod 6755 su; mkdir -m 1777 sticky; mkfifo pipe; rm a; mkfifo a;"
        """python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'"""
    )
    assert stat.S_IMODE((made.root / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((made.root / "sticky").stat().st_mode) == 0o777
    assert not [each for each in ("pipe", "sock", "a") if (made.root / each).exists()]
    assert sum("left out" in line for line in said) == 3


async def test_marks_of_the_layer_do_not_reach_the_workspace_and_cannot_be_forged(made: Bench) -> None:
    await made.run(
        "mkdir d; echo x >>a; python3 -c '"
        """
import os
for path in ("a", "d"):
    for name in ("user.overlay.opaque", "user.overlay.redirect", "user.overlay.metacopy", "user.overlay.whiteout"):
        try: os.setxattr(path, name, b"y")
        except OSError: pass
'"""
    )
    assert [mark for mark in os.listxattr(made.root / "a") if mark.startswith("user.overlay")] == []
    assert (made.root / "a").read_text() == "one\nx\n"


async def test_hard_links_are_not_written_through(made: Bench, outside: Path) -> None:
    os.link(outside / "secret.txt", made.root / "hard")
    for_all(made.root)
    await made.run("echo harm >>hard; ln a twin; echo both >>twin")
    assert (outside / "secret.txt").read_text() == "OUTSIDE\n"
    assert (made.root / "hard").read_text() == "OUTSIDE\nharm\n"
    assert (made.root / "a").read_text() == (made.root / "twin").read_text() == "one\nboth\n"


async def test_a_link_that_is_put_in_the_way_is_not_followed(made: Bench, outside: Path) -> None:
    async with made.capturing("echo x >sub/new; rm sub/c") as capture:
        await made.launch(capture)
        (made.root / "sub").rename(made.root / "moved")
        (made.root / "sub").symlink_to(outside)
        with pytest.raises(Exception, match="by the program too: sub "):
            await capture.bring()
    assert os.listdir(outside) == ["secret.txt"]


async def test_closed_folders_and_files_are_read_and_stay_closed(made: Bench) -> None:
    await made.run("mkdir -p shut/in; echo x >shut/in/x; chmod 000 shut/in/x shut/in; echo y >w; chmod 200 w")
    in_ = made.root / "shut" / "in"
    assert stat.S_IMODE(in_.stat().st_mode) == 0
    in_.chmod(0o700)
    assert stat.S_IMODE((in_ / "x").stat().st_mode) == 0
    kept = {change.path: change.after for change in made.changes}
    assert kept["shut/in/x"] == digest(b"x\n")
    assert stat.S_IMODE((made.root / "w").stat().st_mode) == 0o200


async def test_names_of_any_bytes_are_captured(made: Bench) -> None:
    await made.run("""python3 -c '
import os
for name in (b"new\\nline", b"\\xff\\xfe", b"back\\\\x41", b"a:b,c", b"-rf", b" "):
    open(name, "w").close()
'""")
    names = set(os.listdir(os.fsencode(made.root)))
    assert {b"new\nline", b"\xff\xfe", b"back\\x41", b"a:b,c", b"-rf", b" "} <= names
    undone(made)
    assert set(os.listdir(made.root)) == {"a", "b", "sub", "link"}


async def test_depth_beyond_reach_brings_nothing_and_is_cleared(made: Bench) -> None:
    with pytest.raises(Exception, match="deeper than can be reached"):
        await made.run("""python3 -c '
import os
for _ in range(700): os.mkdir("deeper"); os.chdir("deeper")
os.chmod(".", 0)
'""")
    assert set(os.listdir(made.root)) == {"a", "b", "sub", "link"}
    assert made.events == [FilesChanged("call", discarded=700)]
    assert made.kept() == []


async def test_ten_gigabytes_of_holes_are_bounded_and_said_not_to_be_kept(made: Bench) -> None:
    await made.run("truncate -s 7G huge; dd if=/dev/zero of=big bs=1M count=9 status=none; echo x >small")
    big, huge, small = sorted(made.changes, key=lambda change: change.path)
    assert (huge.after, huge.kept) == ("", False)
    assert (big.after, big.kept) == (digest(bytes(9 * 2**20)), False)
    assert small.kept
    assert sum(map(len, made.blobs.values())) < 100
    assert (made.root / "huge").stat().st_size == 7 * 2**30
    assert (made.root / "huge").stat().st_blocks == 0
    shown = diff(made.changes, made.blobs.__getitem__)
    assert "File big was created (its content is not on the tape" in shown
    with pytest.raises(StateConflict, match="holds a secret: huge;"):
        undone(made)
    assert (made.root / "small").exists()


async def test_a_large_file_that_was_made_can_be_undone_and_one_that_was_changed_cannot(made: Bench) -> None:
    await made.run("dd if=/dev/zero of=big bs=1M count=9 status=none")
    undone(made)
    assert not (made.root / "big").exists()
    made.events.clear()
    (made.root / "big").write_bytes(bytes(9 * 2**20))
    for_all(made.root)
    await made.run("echo x >>big")
    with pytest.raises(StateConflict, match="holds a secret: big;"):
        undone(made)


async def test_many_changes_are_told_up_to_a_bound_and_all_are_brought(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_module, "CHANGES_AN_EVENT", 4)
    said = await made.run("mkdir many; for i in $(seq 29); do echo $i >many/$i; done")
    assert [len(event.changes) for event in made.events] == [4, 4, 4, 4, 4, 4, 4, 2]
    assert len(os.listdir(made.root / "many")) == 29
    assert said[-1] == "and 10 more"


GIT = "git init -q . && git config user.email a@b && git config user.name a && git add a b && git commit -qm one"


async def test_git_commits_for_real(made: Bench) -> None:
    await made.run(GIT)
    for_all(made.root)
    shown = diff(made.changes, made.blobs.__getitem__)
    assert "files in .git/objects differ (Git's own, not shown)" in shown
    assert "b/.git/config" in shown
    made.events.clear()
    await made.run(
        "git status --short; echo more >>a; git commit -qam two; git gc -q; git fsck 2>&1; git log --oneline | wc -l"
    )
    assert made.said.decode().splitlines()[-1] == "2"
    assert "dangling" not in made.said.decode()
    undone(made)
    made.said.clear()
    await made.run("git fsck; git log --oneline | wc -l; git status --short a b")
    assert made.said.decode().splitlines()[-1] == "1"


async def test_make_and_python_work_and_see_what_they_made(made: Bench) -> None:
    (made.root / "Makefile").write_text("all: out\nout: a\n\tcp a out\n")
    (made.root / "mod.py").write_text("print('ran')\n")
    for_all(made.root)
    await made.run("make -s; make -q && echo uptodate; python3 -c 'import mod'; ls __pycache__")
    assert made.said.decode().split()[:2] == ["uptodate", "ran"]
    made.said.clear()
    await made.run("make -q && echo still")
    assert made.said == b"still\n"


async def test_a_layer_on_another_file_system_is_copied_with_its_holes_and_times(root: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == root.stat().st_dev:
        pytest.skip("unavailable: there is no second file system")
    (root / "a").write_text("one\n")
    folder = shared / f"palyra-test-{os.getpid()}"
    try:
        async with bench(root, folder) as made:
            before = tree(root)
            await made.run(
                "truncate -s 100M holes; echo end >>holes; echo two >a; touch -d 2001-02-03 a; ln -s a l; mkdir d; mkfifo p;"
                "echo x >su; chmod 4755 su"
            )
            holes = (root / "holes").stat()
            assert (holes.st_size, holes.st_blocks < 100) == (100 * 2**20 + 4, True)
            assert (root / "a").stat().st_mtime < 1e9
            assert os.readlink(root / "l") == "a"
            assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
            if os.geteuid() == 0:
                assert {each.lstat().st_uid for each in root.rglob("*")} == {layered.NOBODY}
            undone(made)
            assert tree(root) == before
            assert made.kept() == []
    finally:
        sweep([folder])


def as_nobody(*arguments: str) -> dict[str, Any]:
    shown = subprocess.run(
        [zoo.system_python(), "-P", "-m", "tests.tools.layered", *arguments],
        env=zoo.environment(),
        cwd="/",
        user=zoo.NOBODY,
        group=zoo.NOBODY,
        extra_groups=[],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    told: dict[str, Any] = json.loads(shown.stdout)
    return told


def test_as_an_ordinary_user_all_is_captured_too() -> None:
    told = as_nobody("echo more >>old; mkdir d; ln -s old d/l; echo x >d/x; chmod 000 d/x")
    assert {each["path"] for each in told["changes"]} == {"old", "d", "d/l", "d/x"}
    assert told["tree"]["old"] == "100644 old\nmore\n"
    assert told["tree"]["d/l"] == "120777 old"
    assert told["kept"] == []


@pytest.mark.parametrize(
    ("script", "then"),
    [
        ("chmod u+w shut; echo x >shut/new; chmod u-w shut", {"shut": "40555 ", "shut/new": "100644 x\n"}),
        ("chmod u+w shut; rm shut/in", {"shut": "40755 ", "shut/in": None}),
        ("chmod u+w shut; rm -r shut", {"shut": None, "shut/in": None}),
    ],
)
def test_what_an_ordinary_user_closed_to_himself_is_changed_and_put_back_whole(
    script: str, then: dict[str, str | None]
) -> None:
    told = as_nobody(f"echo more >>old; {script}; echo last >z", "undo")
    assert {path: told["tree"].get(path) for path in then} == then
    assert told["tree"]["z"] == "100644 last\n"
    assert told["undone"]


def test_what_a_killed_daemon_leaves_is_cleared_by_the_next_and_the_workspace_is_as_it_was(
    tmp_path: Path,
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a").write_text("one\n")
    script = "echo half >a; mkdir d; chmod 000 d; echo ready; sleep 60"
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.tools.layered", script, "hold", str(tmp_path)],
        cwd=zoo.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "ready\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert tree(tmp_path / "work") == {"a": "100644 one\n"}
    left = tmp_path / "layers"
    assert len(os.listdir(left)) == 1
    sweep([left])
    assert os.listdir(left) == []


async def test_without_layers_a_job_works_in_the_workspace_itself(kernel_workspace: Workspace) -> None:
    job = Job("/bin/true", ("true",), str(kernel_workspace.root), str(kernel_workspace.root), "token")
    recorded: list[FilesChanged] = []

    async def record(event: FilesChanged, blobs: object) -> None:
        recorded.append(event)

    context = ToolContext(kernel_workspace, lambda: 0.0, "call", changed=record)
    async with captured(None, job, context, trio.CapacityLimiter(1)) as capture:
        assert capture.job == job
        assert await capture.bring() == ()
    assert recorded == []


def test_a_person_is_told_whether_it_can_be_undone() -> None:
    assert "can be undone" in capture_in_words("")
    assert capture_in_words("tier 3").endswith("NOT captured, so that nothing can show or undo it: tier 3")


def test_in_a_result_the_files_that_command_others_come_first() -> None:
    changes = [
        FileChange("a", None, digest(b"")),
        FileChange(".git/hooks/pre-commit", None, digest(b""), 0, FILE | 0o755),
    ]
    reading = Reading(changes=changes)
    assert capture_module._in_words(reading)[0] == (
        "created .git/hooks/pre-commit (.git/hooks/pre-commit decides what other programs do)"
    )
