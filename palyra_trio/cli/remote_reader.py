"""Reading a journal that lies elsewhere: the questions that commands put to `journal.queries.Reader`, asked over gRPC.

Each question is a call of its own, and is asked as whom the token says we are. The contents of files are not sent.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import trio

from palyra_trio.cli.profiles import Profile, note, transport
from palyra_trio.cli.remote import Stub, Whole, open_remote
from palyra_trio.core.approvals import Approval, Grant
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.run import RunState
from palyra_trio.core.session import Session
from palyra_trio.core.tape import RUN_STREAM, ModelDelta
from palyra_trio.core.tokens import Token
from palyra_trio.journal.queries import LIST_ROWS, PAGE_ROWS, RunSummary
from palyra_trio.journal.search import HITS, SearchPage
from palyra_trio.pb import agents_pb2, approvals_pb2, jobs_pb2, runs_pb2, search_pb2, sessions_pb2, tape_pb2, tokens_pb2
from palyra_trio.pb.approvals_grpc import ApprovalsServiceStub
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.jobs_grpc import JobsServiceStub
from palyra_trio.pb.search_grpc import SearchServiceStub
from palyra_trio.pb.tokens_grpc import TokenServiceStub
from palyra_trio.runtime.agents import KnownAgent
from palyra_trio.transports import convert
from palyra_trio.transports.convert_approvals import approval_of_message, grant_of_message
from palyra_trio.transports.convert_jobs import job_of_message
from palyra_trio.transports.convert_search import hit_of_message


class RemoteReader:
    """The journal of the daemon that a profile names."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def find_run(self, text: str, principal: Principal) -> RunSummary:
        response = self._ask(GatewayServiceStub, "GetRun", runs_pb2.GetRunRequest(run_id=text))
        return convert.run_of_message(response.run)

    def runs(
        self, principal: Principal, *, session_id: str | None = None, states: Iterable[RunState] = ()
    ) -> tuple[RunSummary, ...]:
        request = runs_pb2.ListRunsRequest(
            session_id=session_id or "", states=[convert.state_number(state) for state in states], page_size=LIST_ROWS
        )
        found = self._ask(GatewayServiceStub, "ListRuns", request).runs
        return tuple(convert.run_of_message(run) for run in found)

    def find_session(self, text: str, principal: Principal) -> Session:
        request = sessions_pb2.GetSessionRequest(session=text)
        return convert.session_of_message(self._ask(GatewayServiceStub, "GetSession", request).session)

    def sessions(self, principal: Principal, *, archived: bool = False) -> tuple[Session, ...]:
        request = sessions_pb2.ListSessionsRequest(archived=archived, page_size=LIST_ROWS)
        found = self._ask(GatewayServiceStub, "ListSessions", request).sessions
        return tuple(convert.session_of_message(session) for session in found)

    def search(self, session: str, principal: Principal, text: str, before: str = "", most: int = HITS) -> SearchPage:
        request = search_pb2.SearchSessionRequest(session=session, text=text, page_size=most, page_token=before)
        found = self._ask(SearchServiceStub, "SearchSession", request)
        return SearchPage(tuple(map(hit_of_message, found.hits)), found.next_page_token)

    def page(self, stream: str, after_seq: int, most: int = PAGE_ROWS) -> tuple[TapeRow, ...]:
        """Return the next rows of a run's tape; a body that came in parts is asked for to its end."""
        request = tape_pb2.ReadTapeRequest(run_id=stream.removeprefix(RUN_STREAM), after_seq=after_seq, max_rows=most)
        whole = Whole()
        items = self._ask(GatewayServiceStub, "ReadTape", request).items
        rows = whole.rows(items)
        while items and items[-1].more:
            request.after_seq, request.max_rows = items[-1].seq - 1, 1
            request.body_offset = whole.begun_bytes
            items = self._ask(GatewayServiceStub, "ReadTape", request).items
            rows += whole.rows(items)
        return rows

    def last_seq(self, stream: str) -> int:
        request = tape_pb2.ReadTapeRequest(run_id=stream.removeprefix(RUN_STREAM), max_rows=1)
        return int(self._ask(GatewayServiceStub, "ReadTape", request).last_seq)

    def tape(self, stream: str, *, deltas: bool = True) -> Iterator[TapeRow]:
        seq = 0
        while rows := self.page(stream, seq):
            seq = rows[-1].seq
            yield from (row for row in rows if deltas or row.kind != ModelDelta.kind)

    def blob(self, digest: str) -> bytes:
        raise InvalidArgument(
            "the contents of files are not sent over the wire", remedy="run this where the daemon runs"
        )

    def known_agents(self) -> tuple[KnownAgent, ...]:
        request = agents_pb2.ListAgentsRequest(page_size=LIST_ROWS)
        return tuple(map(convert.agent_of_message, self._ask(GatewayServiceStub, "ListAgents", request).agents))

    def tokens(self, *, revoked: bool = True) -> tuple[Token, ...]:
        request = tokens_pb2.ListTokensRequest(page_size=LIST_ROWS, revoked=revoked)
        found = self._ask(TokenServiceStub, "ListTokens", request).tokens
        return tuple(convert.token_of_message(token) for token in found)

    @property
    def approvals(self) -> "RemoteApprovals":
        return RemoteApprovals(self._ask)

    @property
    def jobs(self) -> "RemoteJobs":
        return RemoteJobs(self._ask)

    def _ask(self, stub: Stub, method: str, request: Any) -> Any:
        return trio.run(self._asked, stub, method, request)

    async def _asked(self, stub: Stub, method: str, request: Any) -> Any:
        async with open_remote(*self._profile.ways(transport()), note=note) as there:
            return await there.service_call(stub, method, request)


class RemoteJobs:
    """Jobs there, as `journal.jobs.Jobs` tells of those here."""

    def __init__(self, ask: Callable[[Stub, str, Any], Any]) -> None:
        self._ask = ask

    def find(self, text: str, principal: Principal) -> SessionJob:
        request = jobs_pb2.GetJobRequest(job_id=text)
        found = self._ask(JobsServiceStub, "GetJob", request)
        return job_of_message(found.job, principal)

    def listed(self, principal: Principal, *, session_id: str = "", ended: bool, most: int) -> tuple[SessionJob, ...]:
        request = jobs_pb2.ListJobsRequest(session=session_id, ended=ended, page_size=most)
        found = self._ask(JobsServiceStub, "ListJobs", request)
        return tuple(job_of_message(each, principal) for each in found.jobs)


class RemoteApprovals:
    """Approvals and grants there, as `journal.approvals.Approvals` tells of those here."""

    def __init__(self, ask: Callable[[Stub, str, Any], Any]) -> None:
        self._ask = ask

    def listed(self, principal: Principal, *, pending: bool, most: int) -> tuple[Approval, ...]:
        request = approvals_pb2.ListApprovalsRequest(page_size=most, decided=not pending)
        found = self._ask(ApprovalsServiceStub, "ListApprovals", request).approvals
        return tuple(map(approval_of_message, found))

    def find(self, text: str, principal: Principal) -> Approval:
        return approval_of_message(self._get(text).approval)

    def prompt(self, approval: Approval) -> str:
        return str(self._get(approval.approval_id).prompt)

    def grants(self, principal: Principal, now_ms: int, *, ended: bool, most: int) -> tuple[Grant, ...]:
        request = approvals_pb2.ListGrantsRequest(page_size=most, ended=ended)
        return tuple(map(grant_of_message, self._ask(ApprovalsServiceStub, "ListGrants", request).grants))

    def _get(self, text: str) -> Any:
        request = approvals_pb2.GetApprovalRequest(approval_id=text)
        return self._ask(ApprovalsServiceStub, "GetApproval", request)
