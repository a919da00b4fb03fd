"""grpcio's asyncio server (C core): `/bench.Tapes/Single` and `/bench.Tapes/Batched` stream a tape to its end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc.aio

from bench.peers.tape_rows import Tapes, given_tapes, in_batches, one_by_one
from palyra_trio.pb import runs_pb2

Messages = Callable[[Tapes, runs_pb2.RunStreamRequest], Iterator[runs_pb2.RunStreamResponse]]


def handler(tapes: Tapes, messages: Messages) -> Any:
    async def stream(request: runs_pb2.RunStreamRequest, _context: Any) -> AsyncIterator[runs_pb2.RunStreamResponse]:
        for message in messages(tapes, request):
            yield message

    return grpc.unary_stream_rpc_method_handler(
        stream,
        request_deserializer=runs_pb2.RunStreamRequest.FromString,
        response_serializer=runs_pb2.RunStreamResponse.SerializeToString,
    )


async def main() -> None:
    tapes = given_tapes()
    server = grpc.aio.server()
    handlers = {"Single": handler(tapes, one_by_one), "Batched": handler(tapes, in_batches)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Tapes", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ready grpc://127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
