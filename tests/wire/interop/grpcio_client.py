"""The cases with grpcio, the C core, as the client. It blocks, and so it runs in a thread."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import trio

from tests.wire.interop.cases import (
    CASES,
    LARGE_REPLY,
    LARGE_REQUEST,
    METADATA,
    REPLIES,
    REQUESTS,
    SPECIAL_MESSAGE,
    STATUS,
    STATUS_MESSAGE,
    TIMEOUT_S,
    WITHIN_S,
    expect,
    line,
)
from tests.wire.interop.service import messages, methods_of, ordering, zeros


async def talk(port: int) -> list[str]:
    """Return a line for each case against the server on a port of the loopback."""
    return await trio.to_thread.run_sync(_talk, port)


def _talk(port: int) -> list[str]:
    lines = []
    over = threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        client = Client(channel, over)
        for case in CASES:
            try:
                getattr(client, case)()
            except (AssertionError, grpc.RpcError) as failure:
                lines.append(line(case, failure))
            else:
                lines.append(line(case))
        over.set()
    return lines


class Client:
    """A method for each case, which raises AssertionError or RpcError when it fails."""

    def __init__(self, channel: grpc.Channel, over: threading.Event) -> None:
        self._channel = channel
        self._over = over  # what requests wait for that are never to end

    def _method(self, name: str, service: str = "TestService") -> Any:
        path, cardinality, request, reply = methods_of(service)[name]
        kind = "_".join("stream" if many else "unary" for many in cardinality.value)
        multi = getattr(self._channel, kind)
        return multi(path, request_serializer=request.SerializeToString, response_deserializer=reply.FromString)

    def _code(self, call: Callable[[], Any]) -> grpc.StatusCode:
        try:
            call()
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    def empty_unary(self) -> None:
        expect(self._method("EmptyCall")(messages.Empty(), timeout=WITHIN_S), messages.Empty())

    def large_unary(self) -> None:
        request = messages.SimpleRequest(response_size=LARGE_REPLY, payload=zeros(LARGE_REQUEST))
        expect(self._method("UnaryCall")(request, timeout=WITHIN_S).payload.body, bytes(LARGE_REPLY))

    def client_streaming(self) -> None:
        requests = (messages.StreamingInputCallRequest(payload=zeros(size)) for size in REQUESTS)
        expect(self._method("StreamingInputCall")(requests, timeout=WITHIN_S).aggregated_payload_size, sum(REQUESTS))

    def server_streaming(self) -> None:
        request = messages.StreamingOutputCallRequest(response_parameters=[{"size": size} for size in REPLIES])
        replies = self._method("StreamingOutputCall")(request, timeout=WITHIN_S)
        expect([len(reply.payload.body) for reply in replies], list(REPLIES))

    def ping_pong(self) -> None:
        turn = threading.Semaphore(1)

        def ping() -> Iterator[Any]:
            for size, payload in zip(REPLIES, REQUESTS, strict=True):
                turn.acquire(timeout=WITHIN_S)
                yield ordering(size, payload)

        heard = []
        for reply in self._method("FullDuplexCall")(ping(), timeout=WITHIN_S):
            heard.append(len(reply.payload.body))
            turn.release()
        expect(heard, list(REPLIES))

    def empty_stream(self) -> None:
        expect(list(self._method("FullDuplexCall")(iter(()), timeout=WITHIN_S)), [])

    def cancel_after_begin(self) -> None:
        call = self._method("StreamingInputCall").future(self._unended(), timeout=WITHIN_S)
        call.initial_metadata()  # the server's handler has begun
        call.cancel()
        expect(call.code(), grpc.StatusCode.CANCELLED)

    def cancel_after_first_response(self) -> None:
        requests = self._unended(ordering(REPLIES[0], REQUESTS[0]))
        replies = self._method("FullDuplexCall")(requests, timeout=WITHIN_S)
        expect(len(next(replies).payload.body), REPLIES[0])
        replies.cancel()
        expect(replies.code(), grpc.StatusCode.CANCELLED)

    def timeout_on_sleeping_server(self) -> None:
        request = messages.StreamingOutputCallRequest(payload=zeros(REQUESTS[0]))
        replies = self._method("FullDuplexCall")(self._unended(request), timeout=TIMEOUT_S)
        expect(self._code(lambda: next(replies)), grpc.StatusCode.DEADLINE_EXCEEDED)

    def status_code_and_message(self) -> None:
        wanted = messages.EchoStatus(code=STATUS, message=STATUS_MESSAGE)
        unary = self._failing_unary(wanted)
        requests = iter([messages.StreamingOutputCallRequest(response_status=wanted)])
        streaming = self._method("FullDuplexCall")(requests, timeout=WITHIN_S)
        self._code(lambda: list(streaming))
        for call in (unary, streaming):
            expect((call.code(), call.details()), (grpc.StatusCode.UNKNOWN, STATUS_MESSAGE))

    def special_status_message(self) -> None:
        call = self._failing_unary(messages.EchoStatus(code=STATUS, message=SPECIAL_MESSAGE))
        expect((call.code(), call.details()), (grpc.StatusCode.UNKNOWN, SPECIAL_MESSAGE))

    def _failing_unary(self, wanted: Any) -> Any:
        return self._method("UnaryCall").future(messages.SimpleRequest(response_status=wanted), timeout=WITHIN_S)

    def unimplemented_method(self) -> None:
        call = self._method("UnimplementedCall")
        expect(self._code(lambda: call(messages.Empty(), timeout=WITHIN_S)), grpc.StatusCode.UNIMPLEMENTED)

    def unimplemented_service(self) -> None:
        call = self._method("UnimplementedCall", "UnimplementedService")
        expect(self._code(lambda: call(messages.Empty(), timeout=WITHIN_S)), grpc.StatusCode.UNIMPLEMENTED)

    def custom_metadata(self) -> None:
        sent = tuple(METADATA.items())
        request = messages.SimpleRequest(response_size=LARGE_REPLY, payload=zeros(LARGE_REQUEST))
        _, unary = self._method("UnaryCall").with_call(request, metadata=sent, timeout=WITHIN_S)
        requests = iter([ordering(LARGE_REPLY, LARGE_REQUEST)])
        streaming = self._method("FullDuplexCall")(requests, metadata=sent, timeout=WITHIN_S)
        list(streaming)
        for call in (unary, streaming):
            got = [tuple(each) for each in (*call.initial_metadata(), *call.trailing_metadata())]
            expect(got, list(sent))

    def _unended(self, *requests: Any) -> Iterator[Any]:
        """Give requests, and do not say that there are no more."""
        yield from requests
        self._over.wait()
