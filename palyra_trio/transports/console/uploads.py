"""A form that comes with files (RFC 7578), bounded as it arrives and read in a thread, one at a time.

Which pages take files, `site` knows; how many there may be and how large each, the runtime. They are kept in memory only: as a
command, which the journal takes whole, they come to be there anyhow. The bound is how many forms with files `site` takes at a
time; other bodies share a `body_room`.
"""

import math
import mimetypes
from collections.abc import Mapping
from io import BytesIO
from typing import cast

import attrs
import trio
from quart_trio.wrappers.request import TrioBody, TrioRequest
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout
from werkzeug.formparser import MultiPartParser

from palyra_trio.core.commands import NewAttachment
from palyra_trio.core.errors import Busy, InvalidArgument
from palyra_trio.transports.body_room import BodyRoom
from palyra_trio.transports.console.form_reading import FIELDS

MULTIPART = "multipart/form-data"
FILES_BYTES = 32 * 1024 * 1024  # of all files of a form
BYTES_PER_S = 32 * 1024  # as fast as a body has to come, but for a time of silence
BODY_S = 120.0  # for all of a body to come
LAST_S = 2.0  # for a browser to finish a body that is refused: it reads no answer before


@attrs.frozen
class Sent:
    """A form: the first value of each field, and the files that were chosen in it."""

    fields: Mapping[str, str]
    files: tuple[NewAttachment, ...] = ()


class BoundedBody(TrioBody):
    """The body of a request, of which no more is kept than its bound, and for which nobody waits longer than it is worth."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._expected = expected_content_length or 0
        self._ended = trio.Event()
        self._silence_s = math.inf
        self._until = trio.CancelScope()
        self._ends_s = math.inf
        self._room: BodyRoom | None = None

    def bound(self, most: int, silence_s: float, room: BodyRoom | None = None) -> None:
        """Let it have `most` bytes, where it could have more, and be behind BYTES_PER_S by `silence_s` seconds.

        It takes BODY_S at most, and is given up where others need its place in `room`. Reading a longer one raises 413, a slower
        one 408, and one that was given up Busy.
        """
        self._room = room
        self._ends_s = trio.current_time() + BODY_S
        self._silence_s = silence_s
        self._until.deadline = trio.current_time() + silence_s
        self._max_content_length = most
        if max(self._expected, len(self._data)) > most:
            self._refuse(RequestEntityTooLarge())
        elif room is not None:
            room.grew(self.give_up, len(self._data))

    def append(self, data: bytes) -> None:
        if self._max_content_length is not None and len(self._data) + len(data) > self._max_content_length:
            self._refuse(RequestEntityTooLarge())
        super().append(data)
        if self._room is not None and self._must_raise is None:
            self._room.grew(self.give_up, len(data))
        earned = self._until.deadline + len(data) / BYTES_PER_S
        self._until.deadline = min(earned, trio.current_time() + self._silence_s, self._ends_s)

    def give_up(self) -> None:
        """Keep nothing of it any more: its place is needed for another, or nobody waits for it."""
        self._refuse(Busy("others are sending too much", remedy="send it again in a moment"))

    def _refuse(self, error: Exception) -> None:
        self._must_raise = error
        self.clear()
        if self._room is not None:
            self._room.left(self.give_up)
        super().set_complete()

    def set_complete(self) -> None:
        super().set_complete()
        self._ended.set()

    async def whole(self) -> bytes:
        """Wait for all of it, and return it; nothing is kept here. This is for once."""
        busy: Busy | None = None
        with self._until:
            try:
                data: bytes = await self
            except Busy as error:
                busy = error
            else:
                self.give_up()
                return data
        if busy is None:
            raise RequestTimeout
        await self.pass_over()  # else Hypercorn fails the HTTP/2 connection on what still comes
        raise busy

    async def pass_over(self) -> None:
        """Wait until the rest has come, which is dropped, for LAST_S at most."""
        with trio.move_on_after(LAST_S):
            await self._ended.wait()


class BoundedRequest(TrioRequest):
    body: BoundedBody
    body_class = BoundedBody
    uploads = ""  # the principal for whom it counts among those that send files


class UploadReader:
    """Reads the forms with files of one site. A field that is no file has `field_bytes` at most."""

    def __init__(self, field_bytes: int) -> None:
        self._field_bytes = field_bytes
        self._thread = trio.CapacityLimiter(1)

    async def read(self, body: bytes, boundary: str) -> Sent:
        """Return what was sent. Raises InvalidArgument for what is no such form, and 413 for too many fields, or a long one."""
        try:
            return await trio.to_thread.run_sync(self._read, body, boundary, limiter=self._thread)
        except ValueError as error:
            raise InvalidArgument(f"the form cannot be read: {error}", remedy="send the form of a page") from error

    def _read(self, body: bytes, boundary: str) -> Sent:
        if not boundary.isascii() or not boundary:
            raise ValueError("it names no boundary")
        parser = MultiPartParser(
            stream_factory=lambda *_, **__: BytesIO(), max_form_memory_size=self._field_bytes, max_form_parts=FIELDS
        )
        fields, files = parser.parse(BytesIO(body), boundary.encode(), len(body))
        return Sent(
            dict(fields.items()),
            tuple(
                NewAttachment(
                    name,
                    mimetypes.guess_type(name)[0] or each.mimetype or "application/octet-stream",
                    cast("BytesIO", each.stream).getvalue(),
                )
                for each in files.getlist("files")
                if (name := (each.filename or "").replace("\\", "/").rpartition("/")[2])
            ),
        )
