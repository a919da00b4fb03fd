"""Our HTTP/3 server with the routes of `bench.quic`, as plain exchanges: `CERTIFICATE KEY`."""

import os
import sys
from functools import partial
from pathlib import Path

import trio

from palyra_trio.transports.refusals import grpc_error
from palyra_trio.wire.h3_exchange import Exchange
from palyra_trio.wire.h3_server import H3Server
from palyra_trio.wire.limits import Limits, QuicLimits
from palyra_trio.wire.quic_config import Identity
from palyra_trio.wire.udp_sockets import open_udp_sockets

PIECE = bytes(64 * 1024)
CONNECTIONS = Limits(connections=2000)
ONE_CLIENT = QuicLimits(address_share=1)  # which may have all of them


async def handle(exchange: Exchange) -> None:
    if exchange.path == "/small":
        await exchange.answer(200, b"ok\n")
        return
    exchange.begin(200)
    if exchange.path.startswith("/down/"):
        left = int(exchange.path.removeprefix("/down/"))
        while left > 0:
            await exchange.send(PIECE[:left])
            left -= len(PIECE)
        return
    taken = 0
    while (data := await exchange.receive()) is not None:
        taken += len(data)
        if exchange.path == "/echo":
            await exchange.send(data)
    if exchange.path == "/up":
        await exchange.send(str(taken).encode())


async def main(certificate: str, key: str) -> None:
    identity = Identity.load(Path(certificate), Path(key))
    secret = os.urandom(32)
    server = H3Server({}, grpc_error, identity, secret=secret, limits=CONNECTIONS, quic=ONE_CLIENT, exchange=handle)
    sockets = open_udp_sockets("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, sockets))
        print(f"ready https://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
