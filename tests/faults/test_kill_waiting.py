"""`kill -9` of a daemon while runs wait for a person and while decisions are on their way: what was acknowledged is done once."""

import random
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest
import trio
from grpclib.exceptions import GRPCError, StreamTerminatedError

from palyra_trio.cli.open import principal
from palyra_trio.core.approvals import Approval, ApprovalState
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalDecided, ToolStarted
from palyra_trio.journal.queries import Reader
from palyra_trio.pb.approvals_grpc import ApprovalsServiceStub
from palyra_trio.pb.approvals_pb2 import ApprovalsServiceDecideApprovalRequest
from palyra_trio.pb.runs_pb2 import Decision, RunStreamRequest
from palyra_trio.wire.h2_client import connect
from tests.fakes import Tape, assert_journal
from tests.faults.followers import CLIENTS
from tests.faults.serving import Server
from tests.processes import PATIENCE_S, write_call

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes in /proc")

CALLS = ("x", "y")
LOOK_S = 0.05
LEFT = frozenset({RunState.WAITING})


@attrs.define
class Persons:
    """Persons who answer what a server asks, and what they were told: of each approval, whether it was granted."""

    server: Server
    chance: random.Random
    told: dict[str, bool] = attrs.Factory(dict)
    heard: trio.Event = attrs.Factory(trio.Event)

    def approvals(self) -> tuple[Approval, ...]:
        with closing(Reader(self.server.shell.journal)) as reader:
            return reader.approvals.listed(principal(), pending=False)

    def pending(self) -> list[Approval]:
        return [each for each in self.approvals() if each.state is ApprovalState.PENDING]

    async def until_pending(self, count: int) -> None:
        for _ in range(int(PATIENCE_S / LOOK_S)):
            if len(self.pending()) >= count:
                return
            await trio.sleep(LOOK_S)
        raise AssertionError(f"only {len(self.pending())} approvals are pending")

    async def answer(self, approvals: list[Approval]) -> None:
        """Answer them all at once over one connection, as far as it holds."""
        with suppress(OSError):
            async with connect(await trio.open_tcp_stream("127.0.0.1", self.server.port)) as channel:
                stub = ApprovalsServiceStub(channel)  # type: ignore[arg-type]
                async with trio.open_nursery() as nursery:
                    for each in approvals:
                        nursery.start_soon(self._answer, stub, each.approval_id, self.chance.random() < 0.7)

    async def _answer(self, stub: ApprovalsServiceStub, approval_id: str, granted: bool) -> None:
        decision = Decision(approval_id=approval_id, granted=granted)
        request = ApprovalsServiceDecideApprovalRequest(decision=decision)
        with suppress(GRPCError, StreamTerminatedError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await stub.DecideApproval(request, metadata={"authorization": self.server.authorization})
            self.told[approval_id] = granted
            self.heard.set()
            self.heard = trio.Event()


async def _kill_while_they_answer(persons: Persons, after: int) -> None:
    """Let them answer, and kill the server once they have heard of so many answers."""
    server, target = persons.server, len(persons.told) + after
    async with trio.open_nursery() as nursery:
        nursery.start_soon(persons.answer, persons.pending())
        while len(persons.told) < target:
            await persons.heard.wait()
        server.kill()


def _interrupted(server: Server) -> set[str]:
    with closing(Reader(server.shell.journal)) as reader:
        return {run.run_id for run in reader.runs(principal(), most=-1) if run.reason == "interrupted"}


async def _until_quiet(persons: Persons) -> None:
    """Wait until every run has ended, was at work when it was killed, or waits for an answer."""
    with trio.fail_after(PATIENCE_S):
        while True:
            asking = {each.run_id for each in persons.pending()}
            with closing(Reader(persons.server.shell.journal)) as reader:
                runs = reader.runs(principal(), states=[RunState.RUNNING, RunState.WAITING, RunState.QUEUED], most=-1)
            if all(
                run.state is RunState.WAITING and (run.run_id in asking or run.reason == "interrupted") for run in runs
            ):
                return
            await trio.sleep(LOOK_S)


def _check(persons: Persons, tapes: dict[str, Tape]) -> None:
    decided = [event for tape in tapes.values() for event in tape.of(ApprovalDecided)]
    outcomes = {event.approval_id: event.outcome for event in decided}
    assert len(outcomes) == len(decided)
    for approval_id, granted in persons.told.items():
        assert outcomes[approval_id] == ("granted" if granted else "denied")
    interrupted = _interrupted(persons.server)
    for run_id, tape in tapes.items():
        starts = Counter(event.grant for event in tape.of(ToolStarted))
        assert set(starts.values()) <= {1}
        granted_here = {event.approval_id for event in tape.of(ApprovalDecided) if event.outcome == "granted"}
        assert starts.keys() <= granted_here
        if run_id not in interrupted:
            assert starts.keys() == granted_here, "what was granted was not done"
            for call in tape.view.calls.values():
                path = persons.server.shell.folder / str(call.call.arguments["path"])
                assert path.exists() == (call.granted is not None)


@pytest.mark.parametrize(("agents", "kills"), [(6, 2), pytest.param(40, 8, marks=pytest.mark.slow)])
async def test_a_kill_loses_no_answer_and_no_question(tmp_path: Path, agents: int, kills: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = Server.below(tmp_path)
    persons = Persons(server, chance)
    async with server.running():
        metadata = {"authorization": server.authorization}
        for number in range(agents):
            calls = [call for name in CALLS for call in write_call(f"{name}{number}.txt", name)["calls"]]
            await server.define(f"agent-{number}", {"calls": calls}, {"text": "done"})
            order = server.new_run(f"agent-{number}")
            order.attended = order.detached = True
            await CLIENTS["our own"](server.port, metadata, RunStreamRequest(start=order), lambda _: False)
        await persons.until_pending(agents * len(CALLS))
        server.kill()
        await server.start()
        assert len(persons.pending()) == agents * len(CALLS)
        for _ in range(kills):
            if left := len(persons.pending()):
                await _kill_while_they_answer(persons, chance.randint(1, max(1, left // 2)))
                before = {each.approval_id for each in persons.pending()}
                await server.start()
                await _until_quiet(persons)
                assert {each.approval_id for each in persons.pending()} == before
        while asked := [each for each in persons.pending() if each.run_id not in _interrupted(server)]:
            await persons.answer(asked)
            await _until_quiet(persons)
        print(
            f"{len(persons.told)} answers were acknowledged, {len(_interrupted(server))} runs were at work when killed"
        )
    _check(persons, assert_journal(server.shell.state_dir, LEFT))
