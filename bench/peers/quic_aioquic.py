"""aioquic's own asyncio server with the routes of `bench.quic`: `CERTIFICATE KEY`. Its H3 layer is aioquic's too."""

import asyncio
import sys
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent

OK = [(b":status", b"200")]


class Protocol(QuicConnectionProtocol):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http: H3Connection | None = None
        self._paths: dict[int, str] = {}
        self._taken: dict[int, int] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if self._http is not None:
            for each in self._http.handle_event(event):
                self._received(self._http, each)

    def _received(self, http: H3Connection, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            stream = event.stream_id
            path = self._paths[stream] = dict(event.headers)[b":path"].decode()
            http.send_headers(stream, OK)
            if path.startswith("/down/"):
                http.send_data(stream, bytes(int(path.removeprefix("/down/"))), end_stream=True)
            elif path == "/small":
                http.send_data(stream, b"ok\n", end_stream=True)
        elif isinstance(event, DataReceived):
            stream, path = event.stream_id, self._paths[event.stream_id]
            if path == "/echo":
                http.send_data(stream, event.data, event.stream_ended)
            elif path == "/up":
                taken = self._taken[stream] = self._taken.get(stream, 0) + len(event.data)
                if event.stream_ended:
                    http.send_data(stream, str(taken).encode(), end_stream=True)
        self.transmit()


async def main(certificate: str, key: str) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(certificate, key)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Protocol)
    print(f"ready https://127.0.0.1:{server._transport.get_extra_info('sockname')[1]}", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
