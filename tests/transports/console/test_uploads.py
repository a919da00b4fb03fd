"""A body is bounded as it arrives, and a form with files is read as browsers write it."""

from functools import partial

import pytest
import trio
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from palyra_trio.core.errors import Busy, InvalidArgument
from palyra_trio.transports.body_room import BodyRoom
from palyra_trio.transports.console.form_reading import FIELDS
from palyra_trio.transports.console.uploads import BODY_S, BYTES_PER_S, LAST_S, BoundedBody, UploadReader


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
    announced.bound(10, 1)
    with pytest.raises(RequestEntityTooLarge):
        await announced.whole()
    pieces = BoundedBody(None, 100)
    pieces.bound(10, 1)
    for _ in range(3):
        pieces.append(b"12345")
    with pytest.raises(RequestEntityTooLarge):
        await pieces.whole()
    early = BoundedBody(None, 100)
    early.append(b"x" * 11)
    early.bound(10, 1)
    with pytest.raises(RequestEntityTooLarge):
        await early.whole()
    fits = BoundedBody(10, 100)
    fits.bound(10, 1)
    fits.append(b"0123456789")
    fits.set_complete()
    assert await fits.whole() == b"0123456789"


@pytest.mark.parametrize(("part", "every_s", "given_up_after_s"), [(0, 1, 10), (1, 4, 10), (BYTES_PER_S, 3, 14)])
async def test_a_body_that_falls_behind_is_given_up(
    autojump_clock: trio.testing.MockClock, part: int, every_s: float, given_up_after_s: float
) -> None:
    body = BoundedBody(None, 100 * BYTES_PER_S)
    body.bound(100 * BYTES_PER_S, 10)
    began = trio.current_time()

    async def send() -> None:
        for _ in range(100):
            await trio.sleep(every_s)
            body.append(b"x" * part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(RequestTimeout):
            await body.whole()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(given_up_after_s, abs=0.01)


async def test_a_body_that_comes_as_fast_as_it_has_to_takes_its_time_and_what_came_early_buys_no_silence(
    autojump_clock: trio.testing.MockClock,
) -> None:
    body = BoundedBody(None, 100 * BYTES_PER_S)
    body.bound(100 * BYTES_PER_S, 10)

    async def send(seconds: int, *, ends: bool) -> None:
        for _ in range(seconds):
            await trio.sleep(1)
            body.append(b"x" * BYTES_PER_S)
        if ends:
            body.set_complete()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(send, 60, ends=True))
        assert len(await body.whole()) == 60 * BYTES_PER_S
    body = BoundedBody(None, 100 * BYTES_PER_S)
    body.bound(100 * BYTES_PER_S, 10)
    body.append(b"x" * 99 * BYTES_PER_S)
    began = trio.current_time()
    with pytest.raises(RequestTimeout):
        await body.whole()
    assert trio.current_time() - began == 10


async def test_a_body_takes_so_long_at_most_however_much_comes_of_it(autojump_clock: trio.testing.MockClock) -> None:
    body = BoundedBody(None, 1000 * BYTES_PER_S)
    body.bound(1000 * BYTES_PER_S, 10)
    began = trio.current_time()

    async def send() -> None:
        while True:
            await trio.sleep(1)
            body.append(b"x" * BYTES_PER_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with pytest.raises(RequestTimeout):
            await body.whole()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == BODY_S


async def test_the_body_that_has_been_coming_for_longest_is_given_up_for_what_others_send(
    autojump_clock: trio.testing.MockClock,
) -> None:
    room = BodyRoom(10)
    slow, whole, early, last = (BoundedBody(None, 100) for _ in range(4))
    early.append(b"1234")
    for each in (slow, whole, early):
        each.bound(100, 10, room)
    slow.append(b"12")
    whole.append(b"1234")
    whole.set_complete()
    last.bound(100, 10, room)
    last.append(b"1")
    with pytest.raises(Busy):
        await slow.whole()
    slow.append(b"of one that was given up nothing is kept")
    assert await whole.whole() == b"1234"
    last.append(b"12345")
    last.set_complete()
    assert await last.whole() == b"112345"
    early.append(b"567890")
    early.set_complete()
    assert await early.whole() == b"1234567890"


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
