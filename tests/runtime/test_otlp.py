"""What a collector reads is what the span says."""

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from palyra_trio import __version__
from palyra_trio.runtime.otlp import encode, partial_success
from palyra_trio.runtime.tracing import ERROR, SCHEMA_URL, Moment, Span
from tests.collector import plain

RUN = Span(bytes(range(16)), bytes(range(8)), b"", "invoke_agent a", False, 1_000, 5_000, {"n": 3}, ())
CHAT = Span(
    trace_id=bytes(range(16)),
    span_id=bytes(range(8, 16)),
    parent_id=bytes(range(8)),
    name="chat m",
    calls_out=True,
    start_ms=2_000,
    end_ms=3_001,
    attributes={"gen_ai.response.finish_reasons": ("stop", "length"), ERROR: "auth"},
    moments=(Moment("tried", 2_500, {"wait": 1}),),
    why="the key is wrong",
)


def test_a_request_says_who_sends_it_and_by_which_conventions() -> None:
    (of_resource,) = ExportTraceServiceRequest.FromString(encode([RUN, CHAT], "boot-1")).resource_spans
    (of_scope,) = of_resource.scope_spans
    assert plain([*of_resource.resource.attributes]) == {
        "service.name": "palyra-trio",
        "service.version": __version__,
        "service.instance.id": "boot-1",
    }
    assert (of_scope.scope.name, of_scope.scope.version) == ("palyra_trio", __version__)
    assert of_resource.schema_url == of_scope.schema_url == SCHEMA_URL
    assert [span.name for span in of_scope.spans] == ["invoke_agent a", "chat m"]


def test_a_span_is_told_whole() -> None:
    (of_resource,) = ExportTraceServiceRequest.FromString(encode([RUN, CHAT], "boot-1")).resource_spans
    run, chat = of_resource.scope_spans[0].spans
    assert (run.trace_id, run.span_id, run.parent_span_id) == (RUN.trace_id, RUN.span_id, b"")
    assert (chat.trace_id, chat.span_id, chat.parent_span_id) == (RUN.trace_id, CHAT.span_id, RUN.span_id)
    assert (run.kind, chat.kind) == (ProtoSpan.SPAN_KIND_INTERNAL, ProtoSpan.SPAN_KIND_CLIENT)
    assert (chat.start_time_unix_nano, chat.end_time_unix_nano) == (2_000_000_000, 3_001_000_000)
    assert plain([*run.attributes]) == {"n": 3}
    assert plain([*chat.attributes]) == {"gen_ai.response.finish_reasons": ["stop", "length"], ERROR: "auth"}
    assert (run.status.code, chat.status.code) == (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR)
    assert chat.status.message == "the key is wrong"
    (tried,) = chat.events
    assert (tried.name, tried.time_unix_nano, plain([*tried.attributes])) == ("tried", 2_500_000_000, {"wait": 1})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", (0, "")),
        (b"<html>OK</html>", (0, "")),
        (
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
            ).SerializeToString(),
            (3, "too old"),
        ),
    ],
)
def test_what_a_collector_took_of_a_request_is_read_where_it_can_be(body: bytes, says: tuple[int, str]) -> None:
    assert partial_success(body) == says
