"""The GatewayService: each handler turns a request into a command or a question, and the answer into a response.

Who may ask is the door's part, whose runs they are the gateway's. RunStream has a module of its own.
"""

from typing import TYPE_CHECKING

import trio

from palyra_trio import __version__
from palyra_trio.core.commands import (
    Accepted,
    ArchiveSession,
    BindAgent,
    CancelRun,
    DefineAgent,
    OpenSession,
    RemoveAgent,
    RenameSession,
    SessionResolved,
    SetDefaultAgent,
    TakeUpRun,
    UnbindAgent,
    UndoRun,
)
from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.core.identity import Caller, RunId, Scope, SessionId
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import FinalAnswer, RunFinished, TapeEvent
from palyra_trio.journal.queries import PAGE_ROWS, Reader, RunSummary
from palyra_trio.pb import activity_pb2 as activity
from palyra_trio.pb import agents_pb2 as agents
from palyra_trio.pb import (
    gateway_pb2,
    tape_pb2,
)
from palyra_trio.pb import runs_pb2 as runs
from palyra_trio.pb import sessions_pb2 as sessions
from palyra_trio.pb.gateway_grpc import GatewayServiceBase
from palyra_trio.runtime.follow import find_place
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.runtime.undo import changes_of
from palyra_trio.tools.undo import diff, net_changes
from palyra_trio.transports.convert import (
    agent_message,
    agent_spec,
    answering_message,
    binding_place,
    change_message,
    cut,
    fill_page,
    journal_row,
    run_message,
    run_states,
    session_message,
    session_ref,
    start_run,
    state_number,
    usage_message,
)
from palyra_trio.transports.convert_approvals import decision
from palyra_trio.transports.door import Access, Service, require_for_start, streaming, unary
from palyra_trio.transports.health import Where
from palyra_trio.transports.paging import next_page, page_size
from palyra_trio.transports.run_stream import RunStream

if TYPE_CHECKING:
    from grpclib.server import Stream

ANSWER_BYTES = 2 * 1024 * 1024
MOST_CHANGES = 500
PROOF_S = 2.0  # for the canaries, which take a tenth of it; after that the sandbox is said to be unknown still
USAGE_SPAN_MS = 366 * 24 * 3600 * 1000


class GatewayService(Service, GatewayServiceBase):
    """Runs, their tapes, their sessions, and the agents that answer."""

    def __init__(self, gateway: Gateway, access: Access, where: Where) -> None:
        super().__init__(gateway, access)
        self._where = where

    @unary
    async def GetHealth(self, request: gateway_pb2.GetHealthRequest, caller: Caller) -> gateway_pb2.GetHealthResponse:
        with trio.move_on_after(PROOF_S):
            await self.gateway.prove_sandbox()
        health = self.gateway.health()
        return gateway_pb2.GetHealthResponse(
            version=__version__,
            boot_id=health.boot_id,
            now_ms=health.now_ms,
            journal_g=health.g,
            live_runs=health.live_runs,
            draining=health.draining,
            paused_by=health.paused.by if health.paused is not None else "",
            paused_because=health.paused.reason if health.paused is not None else "",
            policy_preset=health.policy_preset,
            policy_hash=health.policy_hash,
            sandbox_tier=health.sandbox.tier,
            sandbox_report=health.sandbox.lines(),
            addresses=self._where.addresses,
            quic_port=self._where.quic_port,
            authority_pem=self._where.authority_pem,
        )

    # --- runs ---

    @streaming
    async def RunStream(self, stream: "Stream[runs.RunStreamRequest, runs.RunStreamResponse]", caller: Caller) -> None:
        await RunStream(self.gateway, self.access, caller, stream).serve()

    @unary
    async def RouteMessage(self, request: runs.RouteMessageRequest, caller: Caller) -> runs.RouteMessageResponse:
        command = start_run(request.start)
        require_for_start(self.access, caller, command)
        accepted = await self.gateway.submit(command, caller.context)
        assert isinstance(accepted, Accepted)
        follower = await self.gateway.follow_started(accepted, caller.context)
        said: dict[int, TapeEvent | None] = {}
        while rows := await follower.next_rows():
            self.access.require(caller, Scope.RUN)
            said |= {row.kind: row.event() for row in rows if row.kind in (FinalAnswer.kind, RunFinished.kind)}
        answer, finished = said.get(FinalAnswer.kind), said[RunFinished.kind]
        run = await self.gateway.run(accepted.run_id, caller.context)
        text, is_cut = cut(answer.text if isinstance(answer, FinalAnswer) else "", ANSWER_BYTES)
        return runs.RouteMessageResponse(
            run_id=run.run_id,
            session_id=run.session_id,
            state=state_number(run.state),
            reason=run.reason,
            detail=finished.detail if isinstance(finished, RunFinished) else "",
            answer=text,
            answer_cut=is_cut,
            last_seq=follower.seq,
        )

    @unary
    async def CancelRun(self, request: runs.CancelRunRequest, caller: Caller) -> runs.CancelRunResponse:
        await self.gateway.submit(CancelRun(RunId(request.run_id), request.reason), caller.context)
        return runs.CancelRunResponse()

    @unary
    async def TakeUpRun(self, request: runs.TakeUpRunRequest, caller: Caller) -> runs.TakeUpRunResponse:
        await self.gateway.submit(TakeUpRun(RunId(request.run_id)), caller.context)
        return runs.TakeUpRunResponse()

    @unary
    async def GetRun(self, request: runs.GetRunRequest, caller: Caller) -> runs.GetRunResponse:
        return runs.GetRunResponse(run=run_message(await self.gateway.run(request.run_id, caller.context)))

    @unary
    async def ListRuns(self, request: runs.ListRunsRequest, caller: Caller) -> runs.ListRunsResponse:
        size, states = page_size(request.page_size), run_states(request.states)
        principal = caller.context.principal

        def read(reader: Reader) -> tuple[RunSummary, ...]:
            try:
                session = reader.find_session(request.session_id, principal) if request.session_id else None
            except NotFound:
                return ()
            session_id = session.session_id if session is not None else None
            return reader.runs(principal, session_id=session_id, states=states, before=request.page_token, most=size)

        found = await self.gateway.ask(read)
        more = next_page(found, size, lambda each: each.run_id)
        return runs.ListRunsResponse(runs=map(run_message, found), next_page_token=more)

    @unary
    async def ReadTape(self, request: tape_pb2.ReadTapeRequest, caller: Caller) -> tape_pb2.ReadTapeResponse:
        most = page_size(request.max_rows, default=PAGE_ROWS, most=PAGE_ROWS)

        def read(reader: Reader) -> tape_pb2.ReadTapeResponse:
            place = find_place(reader, request.run_id, request.after_seq, caller.context.principal)
            rows = reader.page(place.stream, place.after_seq, most)
            page = tape_pb2.ReadTapeResponse(
                run_id=place.run.run_id, last_seq=place.last_seq, ended=place.run.state in TERMINAL
            )
            fill_page(page, rows, request.body_offset)
            return page

        return await self.gateway.ask(read)

    @unary
    async def GetRunChanges(self, request: runs.GetRunChangesRequest, caller: Caller) -> runs.GetRunChangesResponse:
        run = await self.gateway.run(request.run_id, caller.context)

        def read(reader: Reader) -> runs.GetRunChangesResponse:
            changes = changes_of(reader, run.run_id)
            net = net_changes(changes.told)
            text, is_cut = cut(diff(changes.told, reader.blob), ANSWER_BYTES)
            return runs.GetRunChangesResponse(
                run_id=run.run_id,
                workspace=run.workspace,
                changes=map(change_message, net[:MOST_CHANGES]),
                diff=text,
                cut=is_cut or len(net) > MOST_CHANGES,
                notes=changes.notes(),
            )

        return await self.gateway.ask(read)

    @unary
    async def UndoRun(self, request: runs.UndoRunRequest, caller: Caller) -> runs.UndoRunResponse:
        await self.gateway.submit(UndoRun(RunId(request.run_id)), caller.context)
        return runs.UndoRunResponse()

    @unary
    async def DecideApproval(self, request: runs.DecideApprovalRequest, caller: Caller) -> runs.DecideApprovalResponse:
        await self.gateway.submit(decision(request.decision), caller.context)
        return runs.DecideApprovalResponse()

    # --- sessions ---

    @unary
    async def ResolveSession(
        self, request: sessions.ResolveSessionRequest, caller: Caller
    ) -> sessions.ResolveSessionResponse:
        ref = session_ref(request.session_id, request.key, request.require_existing)
        reply = await self.gateway.submit(OpenSession(ref, request.title, request.reset), caller.context)
        assert isinstance(reply, SessionResolved)
        return sessions.ResolveSessionResponse(session=session_message(reply.session), created=reply.created)

    @unary
    async def ListSessions(
        self, request: sessions.ListSessionsRequest, caller: Caller
    ) -> sessions.ListSessionsResponse:
        size = page_size(request.page_size)
        found = await self.gateway.ask(
            lambda reader: reader.sessions(
                caller.context.principal, archived=request.archived, before=request.page_token, most=size
            )
        )
        more = next_page(found, size, lambda each: each.session_id)
        return sessions.ListSessionsResponse(sessions=map(session_message, found), next_page_token=more)

    @unary
    async def GetSession(self, request: sessions.GetSessionRequest, caller: Caller) -> sessions.GetSessionResponse:
        found = await self.gateway.ask(lambda reader: reader.find_session(request.session, caller.context.principal))
        return sessions.GetSessionResponse(session=session_message(found))

    @unary
    async def RenameSession(
        self, request: sessions.RenameSessionRequest, caller: Caller
    ) -> sessions.RenameSessionResponse:
        principal = caller.context.principal
        found = await self.gateway.ask(lambda reader: reader.find_session(request.session, principal))
        await self.gateway.submit(RenameSession(found.session_id, request.title), caller.context)
        renamed = await self.gateway.ask(lambda reader: reader.find_session(found.session_id, principal))
        return sessions.RenameSessionResponse(session=session_message(renamed))

    @unary
    async def ArchiveSession(
        self, request: sessions.ArchiveSessionRequest, caller: Caller
    ) -> sessions.ArchiveSessionResponse:
        found = await self.gateway.ask(lambda reader: reader.find_session(request.session, caller.context.principal))
        await self.gateway.submit(ArchiveSession(found.session_id), caller.context)
        return sessions.ArchiveSessionResponse(session_id=found.session_id)

    # --- agents ---

    @unary
    async def ListAgents(self, request: agents.ListAgentsRequest, caller: Caller) -> agents.ListAgentsResponse:
        size = page_size(request.page_size)
        found = [agent for agent in await self.gateway.agents() if agent.spec.name > request.page_token][: size + 1]
        more = found[size - 1].spec.name if len(found) > size else ""
        return agents.ListAgentsResponse(agents=map(agent_message, found[:size]), next_page_token=more)

    @unary
    async def GetAgent(self, request: agents.GetAgentRequest, caller: Caller) -> agents.GetAgentResponse:
        return agents.GetAgentResponse(agent=agent_message(await self.gateway.agent(request.name)))

    @unary
    async def CreateAgent(self, request: agents.CreateAgentRequest, caller: Caller) -> agents.CreateAgentResponse:
        await self.gateway.submit(DefineAgent(agent_spec(request.spec), request.replace), caller.context)
        return agents.CreateAgentResponse()

    @unary
    async def DeleteAgent(self, request: agents.DeleteAgentRequest, caller: Caller) -> agents.DeleteAgentResponse:
        await self.gateway.submit(RemoveAgent(request.name), caller.context)
        return agents.DeleteAgentResponse()

    @unary
    async def SetDefaultAgent(
        self, request: agents.SetDefaultAgentRequest, caller: Caller
    ) -> agents.SetDefaultAgentResponse:
        await self.gateway.submit(SetDefaultAgent(request.name), caller.context)
        return agents.SetDefaultAgentResponse()

    @unary
    async def BindAgent(self, request: agents.BindAgentRequest, caller: Caller) -> agents.BindAgentResponse:
        await self.gateway.submit(BindAgent(binding_place(request.target), request.agent), caller.context)
        return agents.BindAgentResponse()

    @unary
    async def UnbindAgent(self, request: agents.UnbindAgentRequest, caller: Caller) -> agents.UnbindAgentResponse:
        await self.gateway.submit(UnbindAgent(binding_place(request.target)), caller.context)
        return agents.UnbindAgentResponse()

    @unary
    async def ResolveAgent(self, request: agents.ResolveAgentRequest, caller: Caller) -> agents.ResolveAgentResponse:
        session_id = SessionId(request.session_id) if request.session_id else None
        return answering_message(await self.gateway.answering(session_id, caller.context))

    # --- activity ---

    @unary
    async def RecentEvents(
        self, request: activity.RecentEventsRequest, caller: Caller
    ) -> activity.RecentEventsResponse:
        size, before_g = page_size(request.page_size), _before_g(request.page_token)
        page = await self.gateway.ask(lambda reader: reader.recent(caller.context.principal, before_g, size))
        more = str(page.before_g) if page.before_g else ""
        return activity.RecentEventsResponse(rows=map(journal_row, page.rows), next_page_token=more)

    @unary
    async def UsageSummary(
        self, request: activity.UsageSummaryRequest, caller: Caller
    ) -> activity.UsageSummaryResponse:
        to_ms = request.to_ms or self.gateway.health().now_ms
        if not 0 <= to_ms - request.from_ms <= USAGE_SPAN_MS:
            raise InvalidArgument("the span of time is empty or too long", remedy="ask for 366 days at most")
        principal = caller.context.principal
        found = await self.gateway.ask(lambda reader: reader.used(principal, request.from_ms, to_ms))
        return usage_message(principal, found)


def _before_g(page_token: str) -> int | None:
    if not page_token:
        return None
    if not (page_token.isascii() and page_token.isdigit() and len(page_token) < 19):
        raise InvalidArgument(f"{page_token!r} is no page token", remedy="pass what the page before ended with")
    return int(page_token)
