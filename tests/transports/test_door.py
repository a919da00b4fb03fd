"""Every RPC that the definitions name: nobody gets past the door who may not, and nobody sees what is another's."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.config import RatesConfig
from palyra_trio.core.identity import Caller, RequestContext, Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import SYSTEM_STREAM, ApprovalRequested, run_stream
from palyra_trio.core.tokens import ActedAs
from palyra_trio.pb import (
    activity_pb2,
    agents_pb2,
    approvals_pb2,
    console_pb2,
    gateway_pb2,
    jobs_pb2,
    journal_pb2,
    operations_pb2,
    policy_pb2,
    runs_pb2,
    search_pb2,
    sessions_pb2,
    tape_pb2,
    tokens_pb2,
)
from palyra_trio.transports.door import SCOPES, unary
from palyra_trio.transports.grpc_services import SERVICES
from tests.fakes import CONFIG, FakeProvider, echo, fake_tool, says
from tests.journal.tickets import read
from tests.runtime.jobs_of_tests import start_job
from tests.transports.served import ALICE, BOB, PACKAGE, ROOT, Served, code_of, open_served

METHODS = {
    f"{service.name}/{method.name}": method
    for file in (
        gateway_pb2.DESCRIPTOR,
        approvals_pb2.DESCRIPTOR,
        policy_pb2.DESCRIPTOR,
        jobs_pb2.DESCRIPTOR,
        journal_pb2.DESCRIPTOR,
        operations_pb2.DESCRIPTOR,
        search_pb2.DESCRIPTOR,
        console_pb2.DESCRIPTOR,
        tokens_pb2.DESCRIPTOR,
    )
    for service in file.services_by_name.values()
    for method in service.methods
}
each_method = pytest.mark.parametrize("method", METHODS)


def empty_request(method: str) -> Any:
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(METHODS[method].input_type)()


async def attempt(served: Served, method: str, request: Any, who: str = "alice", **how: Any) -> list[Any] | GRPCError:
    """Return the responses to one request, or the status."""
    try:
        async with served.talk(method, who, **how) as talk:
            await talk.say(request)
            return await talk.rest()
    except GRPCError as error:
        return error


async def refused(served: Served, method: str, **how: Any) -> tuple[Status, str]:
    outcome = await attempt(served, method, empty_request(method), **how)
    assert isinstance(outcome, GRPCError), outcome
    assert outcome.details[0].domain == "palyra-trio"
    assert outcome.details[0].metadata["remedy"]
    return outcome.status, code_of(outcome)


# --- the door ---


def test_every_rpc_of_the_definitions_has_a_scope_and_a_row_below_and_nothing_else_has() -> None:
    assert set(SCOPES) == set(METHODS) == set(ROWS)
    assert {f"{PACKAGE}{method}" for method in METHODS} == {
        f"/{service}/{method.name}" for service in SERVICES for method in METHODS.values() if method.full_name.startswith(service + ".")
    }  # fmt: skip


def test_a_handler_without_a_scope_cannot_be_written() -> None:
    async def handler(self: Any, request: Any, caller: Caller) -> Any:
        await trio.lowlevel.checkpoint()

    with pytest.raises(LookupError, match="has no row in SCOPES"):
        unary(handler)


@each_method
async def test_nobody_gets_in_without_a_token_that_opens(tmp_path: Path, method: str) -> None:
    now_s = 1_000_000.0
    async with open_served(tmp_path, now_s=lambda: now_s) as served:
        revoked, expired = await served.token(ALICE), await served.token(ALICE, expires_ms=int(now_s * 1000) + 1)
        await served.call(
            "TokenService/RevokeToken", tokens_pb2.RevokeTokenRequest(token_id=revoked.token.token_id), "root"
        )
        now_s += 1
        for authorization in (None, "Bearer", "Basic abc", "Bearer plt_unknown", *map(bearer, (revoked, expired))):
            metadata = {} if authorization is None else {"authorization": authorization}
            assert await refused(served, method, metadata=metadata) == (Status.UNAUTHENTICATED, "unauthenticated")


def bearer(issued: Any) -> str:
    return f"Bearer {issued.secret}"


@each_method
async def test_nobody_gets_in_with_every_scope_but_the_one_that_is_needed(tmp_path: Path, method: str) -> None:
    async with open_served(tmp_path) as served:
        others = [scope for scope in Scope if scope is not SCOPES[method]]
        metadata = {"authorization": bearer(await served.token(ALICE, *others))}
        assert await refused(served, method, metadata=metadata) == (Status.PERMISSION_DENIED, "denied")


@each_method
async def test_nobody_gets_in_under_the_name_of_another(tmp_path: Path, method: str) -> None:
    async with open_served(tmp_path) as served:
        scopes = [scope for scope in Scope if scope is not Scope.ADMIN]
        metadata = {"authorization": bearer(await served.token(ALICE, *scopes)), "x-palyra-principal": BOB}
        assert await refused(served, method, metadata=metadata) == (Status.PERMISSION_DENIED, "denied")
        assert acted(served) == []


@each_method
async def test_an_admin_who_acts_as_another_is_on_the_tape(tmp_path: Path, method: str) -> None:
    async with open_served(tmp_path) as served:
        metadata = served.metadata("root") | {"x-palyra-principal": ALICE}
        await attempt(served, method, empty_request(method), metadata=metadata)
        assert [(event.by, event.principal, event.method) for event in acted(served)] == [(ROOT, ALICE, method)]


def acted(served: Served) -> list[ActedAs]:
    with read(served.runtime.state_dir) as reader:
        return [event for row in reader.tape(SYSTEM_STREAM) if isinstance(event := row.event(), ActedAs)]


@each_method
async def test_the_local_user_needs_no_token_over_the_unix_socket(tmp_path: Path, method: str) -> None:
    async with open_served(tmp_path) as served, served.unix_socket() as channel:
        outcome = await attempt(served, method, empty_request(method), metadata={}, channel=channel)
    shut = (Status.UNAUTHENTICATED, Status.PERMISSION_DENIED)
    assert not isinstance(outcome, GRPCError) or outcome.status not in shut


@each_method
async def test_another_user_needs_one_there_too(tmp_path: Path, method: str) -> None:
    async with open_served(tmp_path, local_uid=os.getuid() + 1) as served, served.unix_socket() as channel:
        outcome = await refused(served, method, metadata={}, channel=channel)
    assert outcome == (Status.UNAUTHENTICATED, "unauthenticated")


COUNTED = (Scope.ADMIN, Scope.READ)


@each_method
async def test_a_token_that_asks_too_often_is_told_when_to_come_again(tmp_path: Path, method: str) -> None:
    config = attrs.evolve(CONFIG, rates=RatesConfig(admin_per_s=1, reads_per_s=1))
    async with open_served(tmp_path, config=config) as served, served.unix_socket() as channel:
        for _ in range(2):
            outcome = await attempt(served, method, empty_request(method), "root")
            local = await attempt(served, method, empty_request(method), metadata={}, channel=channel)
            assert not isinstance(local, GRPCError) or local.status is not Status.RESOURCE_EXHAUSTED
    if SCOPES[method] in COUNTED:
        assert isinstance(outcome, GRPCError)
        assert (outcome.status, code_of(outcome)) == (Status.RESOURCE_EXHAUSTED, "busy")
        assert outcome.details[1].retry_delay.seconds == 1
    else:
        assert not isinstance(outcome, GRPCError) or outcome.status is not Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.client_streaming])
async def test_a_call_without_its_request_is_refused(tmp_path: Path, method: str) -> None:
    async with open_served(tmp_path) as served:
        with pytest.raises(GRPCError) as error:
            async with served.talk(method) as talk:
                assert await talk.rest() == []
    assert (error.value.status, code_of(error.value)) == (Status.INVALID_ARGUMENT, "invalid_argument")


# --- whose it is ---


@attrs.frozen
class Hers:
    """What alice has: a finished run, one that waits for her, what she is asked, and a job that runs."""

    workspace: str
    session_id: str
    done: str
    waiting: str
    approval_id: str
    job_id: str


@attrs.frozen
class Row:
    """What bob, who has every scope, asks of alice's, and the code that he is refused with; none where all is his own."""

    request: Callable[[Hers], Any]
    code: str = ""


def start(hers: Hers, **fields: Any) -> runs_pb2.StartRun:
    return runs_pb2.StartRun(text="hello", workspace=hers.workspace, **fields)


NO_SUCH = "not_found"
ROWS = {
    "GatewayService/GetHealth": Row(lambda hers: gateway_pb2.GetHealthRequest()),
    "GatewayService/RunStream": Row(
        lambda hers: runs_pb2.RunStreamRequest(attach=runs_pb2.AttachRun(run_id=hers.waiting)), NO_SUCH
    ),
    "GatewayService/RouteMessage": Row(
        lambda hers: runs_pb2.RouteMessageRequest(
            start=start(hers, session=runs_pb2.SessionRef(session_id=hers.session_id))
        ),
        NO_SUCH,
    ),
    "GatewayService/CancelRun": Row(lambda hers: runs_pb2.CancelRunRequest(run_id=hers.waiting), NO_SUCH),
    "GatewayService/TakeUpRun": Row(lambda hers: runs_pb2.TakeUpRunRequest(run_id=hers.waiting), NO_SUCH),
    "GatewayService/GetRun": Row(lambda hers: runs_pb2.GetRunRequest(run_id=hers.done), NO_SUCH),
    "GatewayService/ListRuns": Row(lambda hers: runs_pb2.ListRunsRequest(session_id=hers.session_id)),
    "GatewayService/ReadTape": Row(lambda hers: tape_pb2.ReadTapeRequest(run_id=hers.done), NO_SUCH),
    "GatewayService/GetRunChanges": Row(lambda hers: runs_pb2.GetRunChangesRequest(run_id=hers.done), NO_SUCH),
    "GatewayService/UndoRun": Row(lambda hers: runs_pb2.UndoRunRequest(run_id=hers.done), NO_SUCH),
    "GatewayService/DecideApproval": Row(
        lambda hers: runs_pb2.DecideApprovalRequest(
            decision=runs_pb2.Decision(approval_id=hers.approval_id, granted=True)
        ),
        NO_SUCH,
    ),
    "GatewayService/ResolveSession": Row(
        lambda hers: sessions_pb2.ResolveSessionRequest(session_id=hers.session_id, reset=True), NO_SUCH
    ),
    "GatewayService/ListSessions": Row(lambda hers: sessions_pb2.ListSessionsRequest(archived=True)),
    "GatewayService/GetSession": Row(lambda hers: sessions_pb2.GetSessionRequest(session=hers.session_id), NO_SUCH),
    "GatewayService/RenameSession": Row(
        lambda hers: sessions_pb2.RenameSessionRequest(session=hers.session_id, title="his"), NO_SUCH
    ),
    "GatewayService/ArchiveSession": Row(
        lambda hers: sessions_pb2.ArchiveSessionRequest(session=hers.session_id), NO_SUCH
    ),
    "GatewayService/ListAgents": Row(lambda hers: agents_pb2.ListAgentsRequest()),
    "GatewayService/GetAgent": Row(lambda hers: agents_pb2.GetAgentRequest(name="default")),
    "GatewayService/CreateAgent": Row(
        lambda hers: agents_pb2.CreateAgentRequest(spec=agents_pb2.AgentSpec(name="other"))
    ),
    "GatewayService/DeleteAgent": Row(lambda hers: agents_pb2.DeleteAgentRequest(name="nobody"), "state_conflict"),
    "GatewayService/SetDefaultAgent": Row(lambda hers: agents_pb2.SetDefaultAgentRequest(name="default")),
    "GatewayService/BindAgent": Row(
        lambda hers: agents_pb2.BindAgentRequest(
            agent="default", target=agents_pb2.BindingTarget(session_id=hers.session_id)
        ),
        NO_SUCH,
    ),
    "GatewayService/UnbindAgent": Row(
        lambda hers: agents_pb2.UnbindAgentRequest(target=agents_pb2.BindingTarget(session_id=hers.session_id)),
        NO_SUCH,
    ),
    "GatewayService/ResolveAgent": Row(
        lambda hers: agents_pb2.ResolveAgentRequest(session_id=hers.session_id), NO_SUCH
    ),
    "GatewayService/RecentEvents": Row(lambda hers: activity_pb2.RecentEventsRequest()),
    "GatewayService/UsageSummary": Row(
        lambda hers: activity_pb2.UsageSummaryRequest(from_ms=0, to_ms=366 * 24 * 3600 * 1000)
    ),
    "ApprovalsService/ListApprovals": Row(lambda hers: approvals_pb2.ListApprovalsRequest(decided=True)),
    "ApprovalsService/GetApproval": Row(
        lambda hers: approvals_pb2.GetApprovalRequest(approval_id=hers.approval_id), NO_SUCH
    ),
    "ApprovalsService/DecideApproval": Row(
        lambda hers: approvals_pb2.ApprovalsServiceDecideApprovalRequest(
            decision=runs_pb2.Decision(approval_id=hers.approval_id, granted=True)
        ),
        NO_SUCH,
    ),
    "ApprovalsService/ListGrants": Row(lambda hers: approvals_pb2.ListGrantsRequest(ended=True)),
    "ApprovalsService/RevokeGrant": Row(
        lambda hers: approvals_pb2.RevokeGrantRequest(grant_id=hers.approval_id), NO_SUCH
    ),
    # The policies are the daemon's; a run's decisions are its principal's.
    "PolicyService/GetPolicies": Row(lambda hers: policy_pb2.GetPoliciesRequest(workspace=hers.workspace)),
    "PolicyService/ReloadPolicies": Row(lambda hers: policy_pb2.ReloadPoliciesRequest()),
    "PolicyService/ExplainCall": Row(
        lambda hers: policy_pb2.ExplainCallRequest(tool="files.read", facts_json='{"path": "a"}')
    ),
    "PolicyService/WhyCall": Row(lambda hers: policy_pb2.WhyCallRequest(run_id=hers.done), NO_SUCH),
    "PolicyService/ListPostures": Row(lambda hers: policy_pb2.ListPosturesRequest()),
    "PolicyService/SetPosture": Row(
        lambda hers: policy_pb2.SetPostureRequest(
            posture=policy_pb2.Posture(tool="files.read", verdict=policy_pb2.POSTURE_VERDICT_ASK)
        )
    ),
    "PolicyService/RemovePosture": Row(lambda hers: policy_pb2.RemovePostureRequest(tool="files.read"), NO_SUCH),
    "JobsService/ListJobs": Row(lambda hers: jobs_pb2.ListJobsRequest(session=hers.session_id, ended=True), NO_SUCH),
    "JobsService/GetJob": Row(lambda hers: jobs_pb2.GetJobRequest(job_id=hers.job_id), NO_SUCH),
    "JobsService/ReadJobOutput": Row(lambda hers: jobs_pb2.ReadJobOutputRequest(job_id=hers.job_id), NO_SUCH),
    "JobsService/StopJob": Row(lambda hers: jobs_pb2.StopJobRequest(job_id=hers.job_id), NO_SUCH),
    "JobsService/GetRunTree": Row(lambda hers: jobs_pb2.GetRunTreeRequest(run_id=hers.waiting), NO_SUCH),
    "JournalService/EraseValue": Row(
        lambda hers: journal_pb2.EraseValueRequest(tape=hers.done, seq=1, field="text", part="her secret"), NO_SUCH
    ),
    "OperationsService/PauseAdmission": Row(lambda hers: operations_pb2.PauseAdmissionRequest(reason="lunch")),
    "OperationsService/ResumeAdmission": Row(lambda hers: operations_pb2.ResumeAdmissionRequest()),
    "OperationsService/ListTasks": Row(lambda hers: operations_pb2.ListTasksRequest()),
    "ConsoleService/CreateSignInLink": Row(lambda hers: console_pb2.CreateSignInLinkRequest(), "state_conflict"),
    "SearchService/SearchSession": Row(
        lambda hers: search_pb2.SearchSessionRequest(session=hers.session_id, text="her"), NO_SUCH
    ),
    # An admin manages everybody's tokens.
    "TokenService/CreateToken": Row(
        lambda hers: tokens_pb2.CreateTokenRequest(name="x", scopes=[tokens_pb2.SCOPE_READ])
    ),
    "TokenService/ListTokens": Row(lambda hers: tokens_pb2.ListTokensRequest()),
    "TokenService/RevokeToken": Row(lambda hers: tokens_pb2.RevokeTokenRequest(token_id="none"), NO_SUCH),
    "TokenService/RotateToken": Row(lambda hers: tokens_pb2.RotateTokenRequest(token_id="none"), NO_SUCH),
}


async def things_of_alice(served: Served) -> Hers:
    """Let alice have a run that is done and, in the same session, one that asks her something."""
    workspace = str(served.runtime.workspace)
    request = runs_pb2.RouteMessageRequest(start=runs_pb2.StartRun(text="her secret", workspace=workspace))
    done = await served.call("RouteMessage", request)
    assert done.state == runs_pb2.RUN_STATE_DONE
    session = runs_pb2.SessionRef(session_id=done.session_id)
    again = runs_pb2.StartRun(text="ask me", workspace=workspace, session=session, attended=True)
    async with served.talk("GatewayService/RunStream") as talk:
        await talk.say(runs_pb2.RunStreamRequest(start=again))
        waiting = (await talk.hear()).accepted.run_id
        asked = await served.runtime.until(waiting, ApprovalRequested, 1, RequestContext(ALICE))
    job_id = await start_job(served.runtime, done.session_id, done.run_id)
    return Hers(workspace, done.session_id, done.run_id, waiting, asked.approval_id, job_id)


def standing(served: Served, hers: Hers) -> list[tuple[str, RunState, int]]:
    """Return how alice's runs stand and how long their tapes are, and that her session is open."""
    with read(served.runtime.state_dir) as reader:
        session = reader.session(hers.session_id)
        assert session is not None
        assert session.archived_ms is None
        return [(run.run_id, run.state, reader.last_seq(run_stream(run.run_id))) for run in reader.runs(ALICE)]


@each_method
async def test_what_is_another_principals_cannot_be_seen_or_touched(tmp_path: Path, method: str) -> None:
    asks = says("", ToolCall("w", "fake.write", {"value": "x"}))
    writes = fake_tool("fake.write", echo, read_only=False)
    provider = FakeProvider(says("her answer"), asks, says("done"))
    async with open_served(tmp_path, provider, tools=[writes], left={RunState.WAITING}) as served:
        hers = await things_of_alice(served)
        before = standing(served, hers)
        outcome = await attempt(served, method, ROWS[method].request(hers), "bob")
        if ROWS[method].code:
            assert isinstance(outcome, GRPCError)
            assert code_of(outcome) == ROWS[method].code
        else:
            assert isinstance(outcome, list), outcome
            assert len(outcome) == 1
            if not method.startswith("TokenService/"):
                seen = outcome[0].SerializeToString()
                for trace in (ALICE, *attrs.astuple(hers)[1:], "her secret", "her answer"):
                    assert trace.encode() not in seen
        assert standing(served, hers) == before


@pytest.mark.parametrize("method", [method for method, row in ROWS.items() if row.code])
async def test_what_is_another_principals_is_not_told_from_what_is_not_there(tmp_path: Path, method: str) -> None:
    asks = says("", ToolCall("w", "fake.write", {"value": "x"}))
    writes = fake_tool("fake.write", echo, read_only=False)
    async with open_served(
        tmp_path, FakeProvider(says("her answer"), asks), tools=[writes], left={RunState.WAITING}
    ) as served:
        hers = await things_of_alice(served)
        nothing = Hers(hers.workspace, *(f"01JZZZZZZZZZZZZZZZZZZZZZZ{end}" for end in "VWXYZ"))
        told = []
        for things in (hers, nothing):
            outcome = await attempt(served, method, ROWS[method].request(things), "bob")
            assert isinstance(outcome, GRPCError)
            text = f"{outcome.status} {outcome.message} {outcome.details}"
            for name in attrs.astuple(things):
                text = text.replace(name, "ID")
            told.append(text)
    assert told[0] == told[1]
