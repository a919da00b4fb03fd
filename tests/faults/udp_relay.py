"""A UDP relay that forgets: it drops a flow for good after some bytes, or gives it another port, as NATs do.

What both ends see of the first is silence, of the second a peer that has moved. The client is not told of either.
"""

import random
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from math import inf

import attrs
import trio

MOST_BYTES = 100_000  # of a flow that is dropped
WHOLE = 0.2  # of the flows are left alone
DATAGRAM_BYTES = 65_536


@attrs.define(eq=False)
class Flow:
    """What comes from one address of a client, and the socket by which it goes on."""

    client: tuple[str, int]
    onward: trio.socket.SocketType
    left_bytes: float
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)


@attrs.define
class UdpRelay:
    """Relays to whatever port of 127.0.0.1 `target` says at the time. Counts the flows that it dropped or moved."""

    port: int
    cuts: int
    rebinds: int
    _inward: trio.socket.SocketType
    _target: Callable[[], int]
    _chance: random.Random | None
    _nursery: trio.Nursery
    _flows: dict[tuple[str, int], Flow] = attrs.Factory(dict)

    async def run(self) -> None:
        """Take what clients send."""
        while True:
            data, client = await self._inward.recvfrom(DATAGRAM_BYTES)
            flow = self._flows.get(client) or await self._begin(client)
            if flow.left_bytes >= 0:
                await flow.onward.sendto(data, ("127.0.0.1", self._target()))

    def cut(self) -> None:
        """Drop all flows."""
        for flow in self._flows.values():
            self._drop(flow)

    async def rebind(self) -> None:
        """Give all flows other ports."""
        for flow in [each for each in self._flows.values() if each.left_bytes >= 0]:
            flow.scope.cancel()
            flow.onward, flow.scope = await _bound(), trio.CancelScope()
            self._nursery.start_soon(self._bring, flow, flow.onward, flow.scope)
            self.rebinds += 1

    async def _begin(self, client: tuple[str, int]) -> Flow:
        left = inf
        if self._chance is not None and self._chance.random() > WHOLE:
            left = MOST_BYTES ** self._chance.random()
        flow = self._flows[client] = Flow(client, await _bound(), left)
        self._nursery.start_soon(self._bring, flow, flow.onward, flow.scope)
        return flow

    async def _bring(self, flow: Flow, onward: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        """Bring back what the server sends, until the flow is dropped or moved."""
        with onward, scope:
            while True:
                data = await onward.recv(DATAGRAM_BYTES)
                flow.left_bytes -= len(data)
                if flow.left_bytes < 0:
                    self._drop(flow)
                    return
                await self._inward.sendto(data, flow.client)

    def _drop(self, flow: Flow) -> None:
        self.cuts += flow.left_bytes != -inf
        flow.left_bytes = -inf
        flow.scope.cancel()


async def _bound() -> trio.socket.SocketType:
    opened = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await opened.bind(("127.0.0.1", 0))
    return opened


@asynccontextmanager
async def relaying(target: Callable[[], int], chance: random.Random | None = None) -> AsyncGenerator[UdpRelay, None]:
    """Relay for the length of the block; without `chance`, flows are dropped and moved only when that is asked for."""
    with await _bound() as inward:
        async with trio.open_nursery() as nursery:
            relay = UdpRelay(inward.getsockname()[1], 0, 0, inward, target, chance, nursery)
            nursery.start_soon(relay.run)
            yield relay
            nursery.cancel_scope.cancel()
