"""A web page as text, read by a process of its own: a page that makes the parser crash or grow ends that alone.

What is kept of a page, and within which bounds, is in html_page.
"""

import sys

import msgspec
import trio

from palyra_trio.tools import html_page
from palyra_trio.tools.html_page import Page, Source


async def page_text(html: str, base_url: str) -> Page | None:
    """Return a page as text, its links made absolute by `base_url`; None when it cannot be read within the bounds.

    If cancelled, the process is ended first. It inherits no environment.
    """
    done = await trio.run_process(
        [sys.executable, "-I", html_page.__file__],
        stdin=msgspec.json.encode(Source(html, base_url)),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={},
    )
    return msgspec.json.decode(done.stdout, type=Page) if done.returncode == 0 else None
