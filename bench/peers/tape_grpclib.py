"""grpclib on uvloop: `/bench.Tapes/Batched` streams a tape to its end."""

import asyncio
from typing import Any

import uvloop
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

from bench.peers.tape_rows import Tapes, given_tapes, in_batches
from palyra_trio.pb import runs_pb2


class Service:
    def __init__(self, tapes: Tapes) -> None:
        self._tapes = tapes

    async def batched(self, stream: Any) -> None:
        request = await stream.recv_message()
        for message in in_batches(self._tapes, request):
            await stream.send_message(message)

    def __mapping__(self) -> dict[str, Handler]:
        types = (runs_pb2.RunStreamRequest, runs_pb2.RunStreamResponse)
        return {"/bench.Tapes/Batched": Handler(self.batched, Cardinality.UNARY_STREAM, *types)}


async def main() -> None:
    server = Server([Service(given_tapes())])
    loop = asyncio.get_running_loop()
    await server.start("127.0.0.1", 0)
    (socket,) = server._server.sockets
    print(f"ready grpc://127.0.0.1:{socket.getsockname()[1]}", flush=True)
    await loop.create_future()


if __name__ == "__main__":
    uvloop.run(main())
