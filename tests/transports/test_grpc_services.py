"""Every service that is defined is served, each of its methods has a scope, and reflection tells of them."""

from pathlib import Path

from palyra_trio.transports.door import SCOPES
from palyra_trio.transports.grpc_services import SERVICES
from tests.transports.served import open_served

PROTO = Path(__file__).parents[2] / "proto"


async def test_what_is_defined_is_served_and_nothing_else_of_ours(tmp_path: Path) -> None:
    defined = {
        f"palyra.gateway.v1.{line.split()[1]}"
        for file in PROTO.glob("**/*.proto")
        for line in file.read_text().splitlines()
        if line.startswith("service ")
    }
    assert set(SERVICES) == defined
    async with open_served(tmp_path) as served:
        ours = {path for path in served.handlers if path.startswith("/palyra.")}
    assert {path.split("/")[1] for path in ours} == defined
    assert {path.removeprefix("/palyra.gateway.v1.") for path in ours} == set(SCOPES)
