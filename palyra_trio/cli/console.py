"""`palyra-trio console`: a sign-in link from the daemon, opened in a browser or printed.

What a program is started with can be read by every user of the machine, so a browser is not started with the link but
with a file of the user's own that leads there. The file stays: the link in it has opened by then, or is soon too old to.
"""

import os
import sys
import webbrowser
from html import escape
from pathlib import Path

import click
import trio

from palyra_trio.cli.door import open_remote_door
from palyra_trio.cli.open import state_dir
from palyra_trio.cli.tables import json_option, print_json
from palyra_trio.guard.private_file import replace_private
from palyra_trio.pb.console_grpc import ConsoleServiceStub
from palyra_trio.pb.console_pb2 import CreateSignInLinkRequest, CreateSignInLinkResponse

FILE_NAME = "console.html"
PAGE = """\
<!doctype html><meta charset="utf-8"><title>palyra-trio</title><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}"><a href="{url}">Open the console</a>
"""


@click.command()
@click.option("--print", "printing", is_flag=True, help="Print the link instead.")
@json_option
def console(printing: bool, as_json: bool) -> None:
    """Open the daemon's console in a browser, signed in as you; exit 69 when there is no daemon.

    The link works once, for ten minutes. Where no browser can be opened it is printed.
    """
    link = trio.run(_link)
    if as_json:
        print_json({"url": link.url, "expires_ms": link.expires_ms})
    elif printing or not _opened(link.url, state_dir()):
        click.echo(link.url)
    else:
        click.echo(
            "opened the console in a browser, to sign in there; if it may not read the file (as from a snap), use --print",
            err=True,
        )


async def _link() -> CreateSignInLinkResponse:
    """Raises the refusal, and NoDaemon."""
    async with open_remote_door(state_dir()) as (door, _):
        link: CreateSignInLinkResponse = await door.service_call(
            ConsoleServiceStub, "CreateSignInLink", CreateSignInLinkRequest()
        )
        return link


def _opened(url: str, folder: Path) -> bool:
    """Open a browser if there is a screen for one. Raises ConfigInvalid where `folder` cannot be written."""
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # there is none where the daemon is elsewhere
    file = folder.absolute() / FILE_NAME
    replace_private(file, PAGE.format(url=escape(url)).encode())
    return webbrowser.open(file.as_uri())
