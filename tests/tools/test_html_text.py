import trio

from palyra_trio.tools.html_page import Page
from palyra_trio.tools.html_text import page_text


async def test_a_page_becomes_text() -> None:
    assert await page_text("<title>T</title><a href=x>l</a>", "https://example.com/") == Page(
        "T", "[l](https://example.com/x)\n"
    )


async def test_a_page_that_makes_the_parser_grow_ends_only_its_own_process() -> None:
    assert await page_text("<blockquote>" * 250 + "x<br>" * 150_000, "https://example.com/") is None


async def test_a_cancel_ends_the_process() -> None:
    with trio.move_on_after(0) as scope:
        await page_text("<p>x", "https://example.com/")
    assert scope.cancelled_caught
