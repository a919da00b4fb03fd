"""Hypercorn's QUIC worker on Trio with the routes of `bench.quic`: `CERTIFICATE KEY`."""

import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import hypercorn.trio
import trio
from hypercorn.config import Config

PIECE = bytes(64 * 1024)


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path: str = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": []})

    async def body(data: bytes, *, more: bool = False) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more})

    if path == "/small":
        await body(b"ok\n")
    elif path.startswith("/down/"):
        left = int(path.removeprefix("/down/"))
        while left > len(PIECE):
            await body(PIECE, more=True)
            left -= len(PIECE)
        await body(bytes(left))
    else:
        taken, event = 0, await receive()
        while event["type"] == "http.request":
            taken += len(event["body"])
            if path == "/echo":
                await body(event["body"], more=event["more_body"])
            if not event["more_body"]:
                break
            event = await receive()
        if path == "/up":
            await body(str(taken).encode())


def free_port() -> int:
    """Return a port that neither UDP nor TCP has: it binds both."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port = udp.getsockname()[1]
            with suppress(OSError):
                tcp.bind(("127.0.0.1", port))
                return int(port)


async def main(certificate: str, key: str) -> None:
    port = free_port()
    config = Config()
    config.certfile, config.keyfile = certificate, key
    config.bind, config.quic_bind = [f"127.0.0.1:{port}"], [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(hypercorn.trio.serve, application, config))  # type: ignore[arg-type]
        print(f"ready https://127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
