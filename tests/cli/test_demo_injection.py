"""The demonstration as a person sees it, in a process of its own; and without a sandbox."""

import re
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from palyra_trio.cli import demo_injection
from palyra_trio.cli.demo import Claims
from palyra_trio.cli.demo_injection import TASKS, Stage, Watched, play, start
from palyra_trio.core.config import Config, SandboxConfig
from palyra_trio.core.errors import NotFound, StateConflict
from palyra_trio.core.tape import ApprovalRequested, ToolProposed
from palyra_trio.tools.sandbox import NO_SANDBOX, Sandbox
from tests.cli.conftest import Palyra
from tests.processes import Shell


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that programs of another user may pass through, too."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, SandboxConfig(), Claims())


def test_every_claim_is_shown_with_what_the_tape_says(shell: Shell, temporary: Path) -> None:
    done = shell.run("demo", "injection", environ={"TMPDIR": str(temporary)})
    out = done.stdout
    if "unavailable: " in out:
        assert done.returncode == 1
        pytest.skip("no interpreter can be run in a sandbox here")
    assert (done.returncode, done.stderr) == (0, ""), out
    assert out.endswith("12 claims hold, 0 do not or could not be shown\n")
    for said in (
        "deny by invalid_argument: the arguments hold a redacted secret",
        "deny by denied: refused as loopback",
        "ask by fetch",
        "deny by config:deny:fetch.post",
        "ApprovalDecided expired",
        "files that hold it: none",
        "0 connections",
        "it is not what was shown any more",
        "notes.txt: as it is now",
        "0 survivors",
        "RunFinished cancelled",
    ):
        assert said in out
    sent = re.search(r'prompt: body +"([0-9a-f]{48})-jorp-ks"', out)
    assert sent
    assert sent[1][::-1] not in out
    (seen,) = re.findall(r"KillReceipt (\d+) processes seen", out)
    (before,) = re.findall(r"/proc: (\d+) with the job's mark before, 0 after", out)
    assert min(int(seen), int(before)) >= TASKS


def test_it_leaves_nothing_and_touches_nothing_of_the_persons(shell: Shell, temporary: Path) -> None:
    before = sorted(shell.root.rglob("*"))
    shell.run("demo", "injection", environ={"TMPDIR": str(temporary)})
    assert list(temporary.iterdir()) == []
    assert sorted(shell.root.rglob("*")) == before


def test_without_a_sandbox_the_storm_reads_unavailable_and_the_rest_is_shown(
    palyra: Palyra, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def no_sandbox(*_: object, **__: object) -> AsyncGenerator[Sandbox]:
        await trio.lowlevel.checkpoint()
        yield NO_SANDBOX

    monkeypatch.setattr("palyra_trio.daemon.open_sandbox", no_sandbox)
    result = palyra("demo", "injection")
    assert result.exit_code == 1
    assert "\n  unavailable: this process runs no programs\n" in result.stdout
    assert result.stdout.endswith("\n9 claims hold, 1 does not or could not be shown\n")


async def test_an_act_that_breaks_off_has_failed_and_the_others_are_shown(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def breaks(stage: Stage) -> None:
        async with stage.runtime("broken", Config()):
            raise StateConflict("the stage broke", remedy="mend it")

    async def holds(stage: Stage) -> None:
        await trio.lowlevel.checkpoint()
        stage.claims.claim("it holds", True)

    for act, played in (("leak", breaks), ("change", holds), ("storm", holds)):
        monkeypatch.setattr(demo_injection, act, played)
    await play(stage)
    assert (stage.claims.held, stage.claims.failed) == (2, 1)
    out = capsys.readouterr().out
    assert "  FAILED the act can be played to its end\n" in out
    assert "the stage broke" in out
    assert "mend it" in out


async def test_what_does_not_come_is_told_when_the_run_ends(stage: Stage) -> None:
    reading = {"calls": [{"tool": "files.read", "arguments": {"path": "none.txt"}}]}
    async with stage.runtime("some", Config()) as gateway:
        run: Watched = await start(gateway, stage.workspace("some", {}), stage.script("some", reading), attended=True)
        assert (await run.until(ToolProposed)).call.tool == "files.read"
        with pytest.raises(NotFound, match="without ApprovalRequested"):
            await run.until(ApprovalRequested)
    assert run.of(ToolProposed)
