"""A state directory of one's own, and journals in it that were written without a daemon."""

import os
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result

from palyra_trio.cli.main import main
from palyra_trio.cli.open import principal
from palyra_trio.core.chain import digest
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import SessionOpened
from palyra_trio.core.tape import (
    SESSION_STREAM,
    FileChange,
    FinalAnswer,
    Input,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
    run_stream,
)
from palyra_trio.journal.guards import Guard
from palyra_trio.journal.store import Entry, SqliteStore, entry
from tests.processes import Shell

SESSION = "01HZZZZZZZ0000000000000001"
RUN = "01HZZZZZZZ0000000000000011"
AT_MS = 1_700_000_000_000

Palyra = Callable[..., Result]


@attrs.define
class Batch:
    entries: tuple[Entry, ...]
    guards: tuple[Guard, ...] = ()
    blobs: tuple[tuple[str, bytes], ...] = ()


@attrs.frozen
class Home:
    """A person's surroundings: where the journal lies, and the folder that the command is called in."""

    state_dir: Path
    folder: Path

    @property
    def journal(self) -> Path:
        return self.state_dir / "journal.sqlite3"

    def record(self, *entries: Entry, blobs: tuple[tuple[str, bytes], ...] = ()) -> None:
        with SqliteStore(self.state_dir) as store:
            (outcome,) = store.append_batch([Batch(entries, blobs=blobs)], AT_MS)
        if isinstance(outcome, Exception):
            raise outcome

    def record_run(self, *events: TapeEvent, run_id: str = RUN, text: str = "do it", by: str = "") -> None:
        """Record a run from its Input on, and its session where that is new."""
        who = by or principal()
        asked = Input(SESSION, who, "device", "cli", text, digest(text.encode()), workspace=str(self.folder))
        opened = entry(SESSION_STREAM + SESSION, SessionOpened(SESSION, who, title="a session"))
        begun = () if self.journal.exists() else (opened,)
        self.record(*begun, *(entry(run_stream(run_id), event) for event in (asked, *events)))

    def record_whole_run(self) -> None:
        """Record a run that wrote a.txt, which is there, was refused a second call, and answered."""
        before, after = b"old\n", b"new\n"
        (self.folder / "a.txt").write_bytes(after)
        change = FileChange("a.txt", digest(before), digest(after))
        writes, denied = ToolCall("c1", "files.write", {"path": "a.txt"}), ToolCall("c2", "files.edit", {})
        self.record_run(
            *STARTED,
            ProviderRequest(1, 1, (), ""),
            ModelTurn(1, "", "tool_calls", Usage(1200, 100, 30), "m", 2),
            ToolProposed(writes),
            ToolProposed(denied),
            PolicyDecision("c1", "allow", "yes-to=files.write", "allowed", ""),
            PolicyDecision("c2", "deny", "policy.deny", "files.edit is disabled", ""),
            ToolStarted("c1", "key", (change,)),
            ToolFinished("c1", "wrote", 12),
            ProviderRequest(2, 1, (), ""),
            ModelDelta(2, "It is "),
            ModelDelta(2, "done."),
            ModelTurn(2, "It is done.", "stop", Usage(10, 0, 5), "m"),
            FinalAnswer("It is done.", "openai", "m"),
            RunFinished(RunState.RUNNING, RunState.DONE, "final_answer"),
        )
        self.record(blobs=((digest(before), before), (digest(after), after)))


STARTED = (
    StatusChange(RunState.QUEUED, RunState.RUNNING, boot_id="a boot"),
    RoutingDecision("openai", "m", "it was asked for by name"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in list(os.environ):
        if name.startswith(("PALYRA_", "XDG_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")):
            monkeypatch.delenv(name)
    home = Home(tmp_path / "state", tmp_path / "project")
    home.folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PALYRA_STATE_DIR", str(home.state_dir))
    monkeypatch.chdir(home.folder)
    return home


@pytest.fixture
def palyra(home: Home) -> Palyra:
    """The command, as a function of its arguments."""

    def call(*arguments: str, **options: str) -> Result:
        return CliRunner().invoke(main, list(arguments), **options)  # type: ignore[arg-type]

    return call


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell.below(tmp_path)
