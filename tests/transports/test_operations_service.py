from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from palyra_trio.core.identity import Scope
from palyra_trio.pb import operations_pb2 as pb
from tests.transports.served import ALICE, code_of, open_served


async def test_an_admin_pauses_and_resumes(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.call("OperationsService/PauseAdmission", pb.PauseAdmissionRequest(reason="why not"), "root")
        paused = served.runtime.gateway.health().paused
        assert paused is not None
        assert paused.reason == "why not"
        await served.call("OperationsService/ResumeAdmission", pb.ResumeAdmissionRequest(), "root")
        assert served.runtime.gateway.health().paused is None


async def test_the_tasks_are_told_to_an_admin(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        answer = await served.call("OperationsService/ListTasks", pb.ListTasksRequest(), "root")
    assert any("Gateway.serve" in line for line in answer.lines)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("PauseAdmission", pb.PauseAdmissionRequest()),
        ("ResumeAdmission", pb.ResumeAdmissionRequest()),
        ("ListTasks", pb.ListTasksRequest()),
    ],
)
async def test_whoever_has_every_other_scope_may_not(tmp_path: Path, method: str, request_: object) -> None:
    async with open_served(tmp_path) as served:
        served.tokens["worker"] = (await served.token(ALICE, Scope.READ, Scope.RUN, Scope.APPROVE)).secret
        with pytest.raises(GRPCError) as refused:
            await served.call(f"OperationsService/{method}", request_, "worker")
        assert code_of(refused.value) == "denied"
        assert served.runtime.gateway.health().paused is None
