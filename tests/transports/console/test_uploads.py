"""A body is bounded as it arrives, and a form with files is read as browsers write it."""

import pytest
import trio
from werkzeug.exceptions import RequestEntityTooLarge

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.transports.console.form_reading import FIELDS
from palyra_trio.transports.console.uploads import LAST_S, BoundedBody, UploadReader


def part(said: str, data: bytes, *headers: str) -> bytes:
    lines = (f"Content-Disposition: form-data; {said}", *headers)
    return b"--B\r\n%b\r\n\r\n%b\r\n" % ("\r\n".join(lines).encode(), data)


async def test_fields_and_files_are_read_as_browsers_write_them() -> None:
    body = (
        part('name="text"', "a\r\nä".encode()) + part('name="text"', b"again")
        + part('name="files"; filename="C:\\\\x\\\\note.txt"', b"\r\n--B no\x00", "Content-Type: x/y")
        + part('name="files"; filename="of no kind"', b"", "Content-Type: x/y") + part('name="files"; filename="../a/b"', b"b")
        + part('name="files"; filename=""', b"") + part('name="others"; filename="c"', b"c") + b"--B--\r\n"
    )  # fmt: skip
    sent = await UploadReader(1000).read(body, "B")
    assert sent.fields == {"text": "a\r\nä"}
    assert [(each.name, each.media_type, each.data) for each in sent.files] == [
        ("note.txt", "text/plain", b"\r\n--B no\x00"),
        ("of no kind", "x/y", b""),
        ("b", "application/octet-stream", b"b"),
    ]


@pytest.mark.parametrize(
    ("body", "boundary"), [(b"x", ""), (b"x", "ä"), (b"x", "B"), (part('name="a"', b"")[:20], "B")]
)
async def test_what_is_no_form_is_refused(body: bytes, boundary: str) -> None:
    with pytest.raises(InvalidArgument):
        await UploadReader(1000).read(body, boundary)


async def test_a_form_of_too_many_fields_or_a_long_one_is_refused() -> None:
    for body in (part('name="a"', b"") * (FIELDS + 1), part('name="a"', b"x" * 1001)):
        with pytest.raises(RequestEntityTooLarge):
            await UploadReader(1000).read(body + b"--B--\r\n", "B")


async def test_a_body_that_is_announced_or_comes_longer_than_its_bound_is_refused() -> None:
    announced = BoundedBody(11, 100)
    announced.bound(10)
    with pytest.raises(RequestEntityTooLarge):
        await announced
    pieces = BoundedBody(None, 100)
    pieces.bound(10)
    for _ in range(3):
        pieces.append(b"12345")
    with pytest.raises(RequestEntityTooLarge):
        await pieces
    early = BoundedBody(None, 100)
    early.append(b"x" * 11)
    early.bound(10)
    with pytest.raises(RequestEntityTooLarge):
        await early
    fits = BoundedBody(10, 100)
    fits.bound(10)
    fits.append(b"0123456789")
    fits.set_complete()
    assert await fits == b"0123456789"


async def test_the_rest_of_a_refused_body_is_passed_over_until_it_ends_and_not_for_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    body = BoundedBody(None, 10)
    body.append(b"x" * 11)
    began = trio.current_time()
    await body.pass_over()
    assert trio.current_time() - began == LAST_S
    async with trio.open_nursery() as nursery:
        nursery.start_soon(body.pass_over)
        await trio.testing.wait_all_tasks_blocked()
        body.append(b"more")
        body.set_complete()
    assert trio.current_time() - began == LAST_S
