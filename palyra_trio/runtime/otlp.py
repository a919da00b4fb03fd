"""Spans as a request of OTLP, the OpenTelemetry protocol (specification 1.x), in protobuf over HTTP; and what is answered.

Wants the extra `otel`, and is imported only where traces are sent.
"""

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from palyra_trio import __version__
from palyra_trio.runtime.tracing import ERROR, SCHEMA_URL, Span, Value

MEDIA_TYPE = "application/x-protobuf"
PATH = "/v1/traces"
SERVICE = "palyra-trio"
NS_A_MS = 1_000_000

INT_MOST = 2**63 - 1


def encode(spans: Iterable[Span], instance_id: str) -> bytes:
    """Return the body of a request that tells a collector of `spans`, as those of process `instance_id`."""
    about = {"service.name": SERVICE, "service.version": __version__, "service.instance.id": instance_id}
    of_scope = ScopeSpans(
        scope=InstrumentationScope(name="palyra_trio", version=__version__),
        spans=map(_span, spans),
        schema_url=SCHEMA_URL,
    )
    of_resource = ResourceSpans(
        resource=Resource(attributes=_attributes(about)), scope_spans=[of_scope], schema_url=SCHEMA_URL
    )
    return ExportTraceServiceRequest(resource_spans=[of_resource]).SerializeToString()


def partial_success(body: bytes) -> tuple[int, str]:
    """Return how many spans of a request that succeeded were rejected all the same, and what is said about it.

    "Partial Success" of OTLP/HTTP: a message without a rejected span is a warning. A body that cannot be read says nothing.
    """
    try:
        said = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return 0, ""
    return said.rejected_spans, said.error_message


def _span(span: Span) -> ProtoSpan:
    return ProtoSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_id,
        name=span.name,
        kind=ProtoSpan.SPAN_KIND_CLIENT if span.calls_out else ProtoSpan.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start_ms * NS_A_MS,
        end_time_unix_nano=span.end_ms * NS_A_MS,
        attributes=_attributes(span.attributes),
        events=[
            ProtoSpan.Event(
                name=each.name, time_unix_nano=each.at_ms * NS_A_MS, attributes=_attributes(each.attributes)
            )
            for each in span.moments
        ],
        status=Status(code=Status.STATUS_CODE_ERROR, message=span.why) if ERROR in span.attributes else Status(),
    )


def _attributes(attributes: Mapping[str, Value]) -> Iterator[KeyValue]:
    return (KeyValue(key=key, value=_value(value)) for key, value in attributes.items())


def _value(value: Value) -> AnyValue:
    match value:
        case str():
            return AnyValue(string_value=value)
        case int():
            return AnyValue(int_value=min(value, INT_MOST))  # a provider may count anything
        case _:
            return AnyValue(array_value=ArrayValue(values=map(_value, value)))
