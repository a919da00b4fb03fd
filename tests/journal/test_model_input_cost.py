"""What a long run costs on disk: each message of its growing context is stored once, however often it is sent."""

import random
from collections.abc import Container
from pathlib import Path

import pytest

from palyra_trio.core.agents import Limits
from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.context import assemble, message_digest
from palyra_trio.core.messages import Message, ToolCall, Usage
from palyra_trio.core.tape import (
    ContextAssembled,
    Input,
    ModelTurn,
    PolicyDecision,
    ProviderRequest,
    RoutingDecision,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
    run_stream,
)
from palyra_trio.core.view import RunView, fold, fold_rows
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from tests.core.tapes import asked_for
from tests.journal.tickets import START, commit, for_run, read, run_id

TURNS = 200
CONTEXT_BYTES = 400_000  # about 100k tokens
RESULT_CHARACTERS = CONTEXT_BYTES // TURNS - 480  # what is left of a turn's share for the result's text
BAR = 1.3
WHOLE_FILE_BAR = 2.55  # with what is no model input: decisions, intents, hashes, salts, indexes, SQLite's pages
MODEL_INPUTS = (Input, ContextAssembled, ProviderRequest, ModelTurn, ToolProposed, ToolFinished)
TOOLS = canonical_json([{"name": "files.read", "description": "x" * 2000, "parameters": {}}])
SYSTEM = Message("system", "You are an agent. " * 30)


class LongRun:
    """A run of 200 turns, one call each, recorded in the tickets in which the agent loop records it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._random = random.Random(7)
        self.view = RunView()
        self.sent: list[tuple[str, ...]] = []
        context = assemble(SYSTEM.text, (), 0, CONTEXT_BYTES)
        digests = tuple(map(message_digest, context.messages))
        self._record(asked_for("Read all of it.", Limits(turns=TURNS)))
        self._record(
            START,
            RoutingDecision("openai", "m", "it was named"),
            ContextAssembled(digests, context.runs, context.omitted_runs, CONTEXT_BYTES),
            blobs=[canonical_json(SYSTEM), TOOLS],
        )
        held: list[TapeEvent] = []
        for turn in range(1, TURNS + 1):
            held = self._turn(turn, held)
        self._record(*held)

    def _record(self, *events: TapeEvent, blobs: tuple[bytes, ...] | list[bytes] = ()) -> None:
        commit(self._store, for_run(1, *events, blobs=blobs))
        for event in events:
            fold(self.view, event)

    def _turn(self, turn: int, held: list[TapeEvent]) -> list[TapeEvent]:
        """Record one turn as two commits; return its result, which is recorded with the next request."""
        ahead = self.view.ahead(held)
        digests = (message_digest(SYSTEM), *map(message_digest, ahead.messages))
        self.sent.append(digests)
        self._record(*held, ProviderRequest(turn, ahead.requested, digests[ahead.requested :], digest(TOOLS)))
        call = ToolCall(f"call_{turn:020}", "files.read", {"path": self._words(60)})
        self._record(
            ModelTurn(turn, self._words(150), "tool_calls", Usage(1000, 0, 50), "m", 1),
            ToolProposed(call),
            PolicyDecision(call.call_id, "allow", "read-only", "it only reads", digest(canonical_json(call.arguments))),
            ToolStarted(call.call_id, f"{run_id(1)}:{call.call_id}"),
        )
        return [ToolFinished(call.call_id, self._words(RESULT_CHARACTERS), 12)]

    def _words(self, characters: int) -> str:
        return self._random.randbytes(characters).hex()[:characters]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[LongRun, Path]:
    state_dir = tmp_path_factory.mktemp("long")
    with SqliteStore(state_dir) as store:
        run = LongRun(store)
    return run, state_dir


def unique_bytes(run: LongRun) -> int:
    """Return the bytes of all that was ever sent, each message and the tool definitions once."""
    return len(TOOLS) + sum(len(canonical_json(message)) for message in (SYSTEM, *run.view.messages))


def stored_bytes(reader: Reader, kinds: Container[type[TapeEvent] | None]) -> int:
    """Return the bytes of all blobs, and of the bodies of these kinds."""
    bodies = (row.body for row in reader.tape(run_stream(run_id(1))) if type(row.event()) in kinds)
    return sum(len(body or b"") for body in bodies) + sum(len(body) for _, body in reader.blobs())


def test_the_run_is_as_long_as_it_claims(recorded: tuple[LongRun, Path]) -> None:
    run, _ = recorded
    assert len(run.sent) == TURNS
    assert len(run.sent[-1]) == 2 * TURNS
    assert CONTEXT_BYTES * 0.9 < unique_bytes(run) < CONTEXT_BYTES * 1.1


def test_model_inputs_cost_little_more_than_what_was_said(recorded: tuple[LongRun, Path]) -> None:
    run, state_dir = recorded
    with read(state_dir) as reader:
        assert unique_bytes(run) < stored_bytes(reader, MODEL_INPUTS) <= BAR * unique_bytes(run)


def test_the_whole_file_does_not_grow_with_what_is_sent_again(recorded: tuple[LongRun, Path]) -> None:
    run, state_dir = recorded
    assert (state_dir / FILE_NAME).stat().st_size <= WHOLE_FILE_BAR * unique_bytes(run)


def test_every_request_can_be_rebuilt_from_its_tape(recorded: tuple[LongRun, Path]) -> None:
    run, state_dir = recorded
    view = RunView()
    previous: tuple[str, ...] = ()
    rebuilt = []
    with read(state_dir) as reader:
        for row in reader.tape(run_stream(run_id(1))):
            event = row.event()
            fold_rows(view, [row])
            if isinstance(event, ContextAssembled):
                previous = event.messages
                assert digest(reader.blob(previous[0])) == message_digest(SYSTEM)
            if isinstance(event, ProviderRequest):
                previous = (*previous[: event.kept], *event.added)
                assert previous[1:] == tuple(map(message_digest, view.messages))
                assert reader.blob(event.tools) == TOOLS
                rebuilt.append(previous)
    assert rebuilt == run.sent
