"""`palyra-trio console`: a sign-in link from the daemon, opened in a browser or printed."""

import os
import sys
import webbrowser

import click
import trio

from palyra_trio.cli.door import open_remote_door
from palyra_trio.cli.open import state_dir
from palyra_trio.cli.tables import json_option, print_json
from palyra_trio.pb.console_grpc import ConsoleServiceStub
from palyra_trio.pb.console_pb2 import CreateSignInLinkRequest, CreateSignInLinkResponse


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
    elif printing or not _opened(link.url):
        click.echo(link.url)
    else:
        click.echo("opened the console in a browser; --print shows the link instead", err=True)


async def _link() -> CreateSignInLinkResponse:
    """Raises the refusal, and NoDaemon."""
    async with open_remote_door(state_dir()) as (door, _):
        link: CreateSignInLinkResponse = await door.service_call(
            ConsoleServiceStub, "CreateSignInLink", CreateSignInLinkRequest()
        )
        return link


def _opened(url: str) -> bool:
    """Open a browser if there is a screen for one. Its own words do not belong on our output."""
    graphical = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return graphical and webbrowser.open(url)
