"""A collector of traces on 127.0.0.1, which speaks OTLP over HTTP as any does, or keeps silent, or refuses."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import h11
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SILENT = 0
Value = str | int | list[str]


@attrs.define
class Collector:
    """What it was sent. It answers each request with the next of `statuses`, the last again and again; never if SILENT.

    An answer has `headers`, and `says` for a body.
    """

    statuses: list[int] = attrs.Factory(lambda: [200])
    says: bytes = b""
    headers: list[tuple[str, str]] = attrs.Factory(list)
    port: int = 0
    requests: list[h11.Request] = attrs.Factory(list)
    taken: list[ExportTraceServiceRequest] = attrs.Factory(list)
    bodies: list[bytes] = attrs.Factory(list)
    _changed: trio.Event = attrs.Factory(trio.Event)

    @classmethod
    @asynccontextmanager
    async def open(cls, *statuses: int) -> AsyncGenerator["Collector", None]:
        collector = cls([*statuses] or [200])
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, collector._serve, 0, host="127.0.0.1"))
            collector.port = listener.socket.getsockname()[1]
            yield collector
            nursery.cancel_scope.cancel()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Span]:
        """The spans of the requests that were answered with success, as they came."""
        return [
            span
            for request in self.taken
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]

    async def until_asked(self, count: int) -> None:
        """Wait until it has been asked so often."""
        while len(self.requests) < count:
            await self._changed.wait()

    async def until_told(self, count: int) -> list[Span]:
        """Wait until it has so many spans, and return them."""
        while len(self.spans) < count:
            await self._changed.wait()
        return self.spans

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection, body, request = h11.Connection(h11.SERVER), b"", None
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
        if not isinstance(event, h11.EndOfMessage) or request is None:
            return
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.requests.append(request)
        self.bodies.append(body)
        if 200 <= status < 300:
            self.taken.append(ExportTraceServiceRequest.FromString(body))
        self._changed.set()
        self._changed = trio.Event()
        if status == SILENT:
            await trio.sleep_forever()
        about = [("content-length", str(len(self.says))), ("connection", "close"), *self.headers]
        answer = h11.Response(status_code=status, headers=about)
        for each in (answer, h11.Data(self.says), h11.EndOfMessage()):
            await stream.send_all(connection.send(each) or b"")


def plain(attributes: "list[KeyValue]") -> dict[str, Value]:
    """Return attributes as plain values."""
    return {each.key: _plain(each.value) for each in attributes}


def _plain(value: AnyValue) -> Value:
    match value.WhichOneof("value"):
        case "int_value":
            return value.int_value
        case "array_value":
            return [each.string_value for each in value.array_value.values]
        case _:
            return value.string_value
