"""picoquic by way of aiopquic, in an environment of its own: `picoquic_client.py HOST PORT CA STREAM...`.

It knows no HTTP: a STREAM is the hex of what is sent on it, the first a unidirectional one. On stdout comes, for each of
the others, the hex of what was answered, a line each.
"""

import asyncio  # ruff: ignore[banned-api]  # aiopquic is for asyncio, and this process is its own
import sys
from typing import Any

from aiopquic.asyncio.client import connect  # type: ignore[import-not-found]
from aiopquic.asyncio.protocol import QuicConnectionProtocol  # type: ignore[import-not-found]
from aiopquic.quic.configuration import QuicConfiguration  # type: ignore[import-not-found]
from aiopquic.quic.events import StreamDataReceived  # type: ignore[import-not-found]

WITHIN_S = 30.0


class Protocol(QuicConnectionProtocol):  # type: ignore[misc]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.answers: dict[int, bytes] = {}
        self.left: set[int] = set()
        self.done = asyncio.Event()

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id in self.answers:
            self.answers[event.stream_id] += bytes(event.data)
            if event.end_stream:
                self.left.discard(event.stream_id)
        if self.answers and not self.left:
            self.done.set()


async def main(host: str, port: str, authority: str, control: str, *requests: str) -> None:
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        is_client=True,
        cafile=authority,
        server_name="localhost",
        max_datagram_frame_size=None,
    )
    async with connect(host, int(port), configuration=configuration, create_protocol=Protocol) as protocol:
        quic = protocol._quic
        quic.send_stream_data(quic.get_next_available_stream_id(is_unidirectional=True), bytes.fromhex(control), False)
        for request in requests:
            stream = quic.get_next_available_stream_id()
            protocol.answers[stream] = b""
            protocol.left.add(stream)
            quic.send_stream_data(stream, bytes.fromhex(request), True)
        await asyncio.wait_for(protocol.done.wait(), WITHIN_S)
        for answer in protocol.answers.values():
            print(answer.hex())


asyncio.run(main(*sys.argv[1:]))
