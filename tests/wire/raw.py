"""A client that says what it likes, in bytes: for peers that break the rules."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio
import trio.testing
from h2.config import H2Configuration
from h2.events import Event

from palyra_trio.wire.h2_connection import Machine
from palyra_trio.wire.h2_server import H2Server
from palyra_trio.wire.limits import Limits
from palyra_trio.wire.metadata import Headers, request_headers
from tests.wire.echo import Echo, server_of

WITHIN_S = 40  # a server that never answers fails the test, also one in which silence is what is tested
HEADERS: Headers = request_headers("/tests.wire.Echo/Wait", "x", "http", float("inf"), "raw", {})


@attrs.define
class Raw:
    """`machine` makes the frames; its own checks of what it sends are off."""

    stream: trio.abc.Stream
    server: H2Server
    machine: Machine
    events: list[Event]

    async def flush(self) -> None:
        await self.stream.send_all(self.machine.data_to_send())

    async def read(self) -> bool:
        """Take what comes next. Return False at the end of the connection."""
        with trio.fail_after(WITHIN_S):
            data = await self.stream.receive_some(65536)
        if data:
            self.events += self.machine.receive_data(bytes(data))
        return bool(data)

    async def read_to_end(self) -> None:
        while await self.read():
            pass

    def find(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def raw_client(echo: Echo, limits: Limits | None = None, *, greeted: bool = True) -> AsyncGenerator[Raw, None]:
    near, far = trio.testing.memory_stream_pair()
    config = H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
    server = server_of(echo, limits)
    raw = Raw(near, server, Machine(config), [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, far)
        if greeted:
            raw.machine.initiate_connection()
            await raw.flush()
        yield raw
        nursery.cancel_scope.cancel()
