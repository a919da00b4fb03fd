"""Headers and trailers of a gRPC call, sans-IO (gRPC over HTTP/2, "Requests" and "Responses").

Reads and writes them, and says what is wrong with them; sends nothing. Header values are Latin-1, as nothing better is
promised by HTTP; gRPC's own are ASCII.
"""

import base64
import binascii
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote

import attrs
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.metadata import encode_metadata
from multidict import MultiDict

if TYPE_CHECKING:
    from google.protobuf.message import Message

Headers: TypeAlias = list[tuple[str, str]]
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]
Metadata: TypeAlias = "MultiDict[str | bytes]"
MetadataLike: TypeAlias = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]

CONTENT_TYPE = "application/grpc+proto"
MESSAGE_CHARS = 1_000  # of a status message: clients take 8 KiB of trailers, and each may become nine bytes
_CONTENT_TYPES = re.compile(r"application/grpc(\+proto)?\s*(;.*)?")
_OF_THE_CALL = {"te", "content-type", "user-agent"}
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_UNIT_S = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0, "M": 60.0, "H": 3600.0}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_MOST = 99_999_999  # eight digits
# What an HTTP status says of a call that got no gRPC status (gRPC, "HTTP to gRPC Status Code Mapping").
_OF_HTTP = {
    "400": Status.INTERNAL,
    "401": Status.UNAUTHENTICATED,
    "403": Status.PERMISSION_DENIED,
    "404": Status.UNIMPLEMENTED,
    "429": Status.UNAVAILABLE,
    "502": Status.UNAVAILABLE,
    "503": Status.UNAVAILABLE,
    "504": Status.UNAVAILABLE,
}


class NotGrpc(Exception):
    """A request that is HTTP and not gRPC, with the HTTP status and the words to answer it."""

    def __init__(self, http_status: int, text: str) -> None:
        super().__init__(text)
        self.http_status = http_status
        self.text = text


@attrs.frozen
class Request:
    """What the headers of a call say. `timeout_s` is infinite when the client set no deadline."""

    method: str
    timeout_s: float
    user_agent: str | None
    metadata: Metadata


def parse_request(headers: RawHeaders) -> Request:
    """Read a request's headers. Raises NotGrpc, or GRPCError(INTERNAL) when gRPC's own headers are malformed."""
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    first = dict(reversed(fields))
    if first.get(":method") != "POST":
        raise NotGrpc(405, "this is a gRPC server: requests are POST")
    if not _CONTENT_TYPES.fullmatch(first.get("content-type", "")):
        raise NotGrpc(415, "this is a gRPC server: the content-type is application/grpc")
    if first.get("te") != "trailers":
        raise NotGrpc(400, "this is a gRPC server: requests have te: trailers")
    try:
        timeout_s = parse_timeout(first["grpc-timeout"]) if "grpc-timeout" in first else math.inf
        return Request(first.get(":path", ""), timeout_s, first.get("user-agent"), decode_metadata(fields))
    except ValueError as error:
        raise GRPCError(Status.INTERNAL, str(error)) from error


def request_headers(
    method: str, authority: str, scheme: str, timeout_s: float, user_agent: str, metadata: MetadataLike
) -> Headers:
    """Return a request's headers; an infinite timeout sets no deadline. Raises ValueError or TypeError for bad metadata."""
    headers = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", method),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", CONTENT_TYPE),
        ("user-agent", user_agent),
    ]
    if timeout_s < math.inf:
        headers.append(("grpc-timeout", format_timeout(timeout_s)))
    return headers + _encode(metadata)


def response_headers(metadata: MetadataLike = ()) -> Headers:
    """Return the headers of a response that begins. Raises ValueError or TypeError for bad metadata."""
    return [(":status", "200"), ("content-type", CONTENT_TYPE), *_encode(metadata)]


def trailers(status: Status, message: str | None = None, details: Any = None, metadata: MetadataLike = ()) -> Headers:
    """Return the trailers of a response: its status, with `details` as `encode_details` takes them.

    Raises ValueError or TypeError for bad metadata.
    """
    headers = [("grpc-status", str(status.value))]
    if message:
        headers.append(("grpc-message", encode_text(message[:MESSAGE_CHARS])))
    if details:
        encoded = encode_details(status, message or "", details)
        headers.append(("grpc-status-details-bin", base64.b64encode(encoded).rstrip(b"=").decode()))
    return headers + _encode(metadata)


def status_of(headers: RawHeaders, response: RawHeaders = ()) -> GRPCError:
    """Return what trailers, and the response headers before them, say of the call's end; also OK is such an error value.

    Never raises: what makes no sense is a status of its own.
    """
    begun = {name: value.decode("latin-1") for name, value in response}
    ended = {name: value.decode("latin-1") for name, value in headers}
    code = ended.get(b"grpc-status")
    if code is None:
        http = (begun or ended).get(b":status", "")
        return GRPCError(_OF_HTTP.get(http, Status.UNKNOWN), f"the answer is not gRPC: HTTP status {http or 'missing'}")
    try:
        status = Status(int(code))
    except ValueError:
        return GRPCError(Status.UNKNOWN, f"the server sent the unknown status {code[:20]}")
    message = ended.get(b"grpc-message")
    details = ended.get(b"grpc-status-details-bin")
    return GRPCError(status, None if message is None else decode_text(message), details and _details(details))


def is_grpc(headers: RawHeaders) -> bool:
    """Return whether response headers begin a gRPC answer. They need not be ones, if a proxy gives the answer."""
    fields = dict(headers)
    return fields.get(b":status") == b"200" and fields.get(b"content-type", b"").startswith(b"application/grpc")


def encode_details(status: Status, message: str, details: "bytes | Iterable[Message]") -> bytes:
    """Return a serialised google.rpc.Status that holds the messages `details`; bytes are taken to be one already."""
    if isinstance(details, bytes):
        return details
    from google.rpc.status_pb2 import Status as RichStatus  # 20 ms that a call without details need not pay

    rich = RichStatus(code=status.value, message=message.encode("utf-8", "replace").decode())
    for detail in details:
        rich.details.add().Pack(detail)
    encoded: bytes = rich.SerializeToString()
    return encoded


def _details(value: str) -> "list[Message] | None":
    """Return the details that this client knows the types of, or None when they cannot be read."""
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2
    from google.rpc.status_pb2 import Status as RichStatus

    known: list[Message] = []
    try:
        for packed in RichStatus.FromString(decode_binary(value)).details:
            kind = packed.TypeName().removeprefix("google.rpc.")
            detail = getattr(error_details_pb2, kind, None)
            if kind in error_details_pb2.DESCRIPTOR.message_types_by_name and detail is not None:
                known.append(detail.FromString(packed.value))
    except (DecodeError, ValueError):
        return None
    return known


def decode_metadata(headers: Iterable[tuple[str, str]]) -> Metadata:
    """Return a caller's own metadata, without what belongs to HTTP and to gRPC. Raises ValueError for bad base64."""
    metadata: Metadata = MultiDict()
    for name, value in headers:
        if name.startswith((":", "grpc-")) or name in _OF_THE_CALL:
            continue
        if name.endswith("-bin"):
            for each in value.split(","):
                metadata.add(name, decode_binary(each))
        else:
            metadata.add(name, value)
    return metadata


def _encode(metadata: MetadataLike) -> Headers:
    return list(encode_metadata(MultiDict(metadata)))


def decode_binary(value: str) -> bytes:
    """Return the bytes of one `-bin` value; its padding may be missing. Raises ValueError when it is not base64."""
    value = value.strip().rstrip("=")
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("binary metadata is not base64") from error


def encode_text(text: str) -> str:
    """Percent-encode a status message, as UTF-8; a lone surrogate becomes a question mark."""
    return quote(text.encode("utf-8", "replace"), safe=_PRINTABLE)


def decode_text(value: str) -> str:
    """Undo `encode_text`. What is not well encoded stays as it is, or becomes U+FFFD; nothing is raised."""
    return unquote(value, "utf-8", "replace")


def parse_timeout(value: str) -> float:
    """Return a `grpc-timeout` in seconds. Raises ValueError when it is not one to eight digits and a unit."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ValueError("grpc-timeout is malformed")
    return int(match[1]) * _UNIT_S[match[2]]


def format_timeout(timeout_s: float) -> str:
    """Return seconds as a `grpc-timeout`, rounded up in the finest unit that eight digits hold; negative ones are zero."""
    for unit, unit_s in _UNIT_S.items():
        count = math.ceil(max(timeout_s, 0) / unit_s)
        if count <= _MOST:
            return f"{count}{unit}"
    return f"{_MOST}H"
