"""`palyra-trio demo`: what this program claims, shown on this machine, each claim with what the tape says of it.

Nothing of the person's is used but the [sandbox] of the configuration: state and workspaces are temporary, and the model
is a script. What is played is in `demo_injection` and `demo_roam`.
"""

import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import attrs
import click
import trio

from palyra_trio.cli import exit_codes
from palyra_trio.cli.open import read_settings
from palyra_trio.core.text import visible
from palyra_trio.core.words import one_line

LIMIT_S = 55.0


@attrs.define
class Claims:
    """What was claimed so far, printed as it comes; `failed` counts what did not hold or could not be shown."""

    held: int = 0
    failed: int = 0

    def act(self, title: str) -> None:
        click.echo(f"\n{title}")

    def claim(self, words: str, held: bool, *evidence: str) -> None:
        """Print a claim, whether it holds, and the evidence for that, a line each."""
        self.held += held
        self.failed += not held
        click.echo(f"  {'ok    ' if held else 'FAILED'} {one_line(words)}")
        self.note(*map(one_line, evidence))

    def unavailable(self, reason: str, remedy: str) -> None:
        """Print that a claim could not be shown here, which is no better than one that does not hold."""
        self.failed += 1
        click.echo(f"  unavailable: {one_line(reason)}")
        self.note(remedy)

    def note(self, *texts: str) -> None:
        for line in "\n".join(texts).splitlines():
            click.echo(f"           {visible(line)}")


@click.group()
def demo() -> None:
    """See what this program claims shown on this machine: no key, temporary state, nothing of yours is touched."""


@demo.command()
def injection() -> None:
    """A README gives orders to a model that obeys: what it cannot do, and how what it started ends.

    The only server there is listens on the loopback interface. Takes some seconds; exit status 1 when a claim does not
    hold, or cannot be shown here.
    """
    from palyra_trio.cli.demo_injection import Stage, play

    sandbox = read_settings().base.sandbox
    _show(lambda folder, claims: play(Stage(folder, sandbox, claims)))


@demo.command()
def roam() -> None:
    """A client follows a run, moves to another address, and then may send no more UDP: what it receives of the run.

    Client, router and daemon are network namespaces of this machine, which root may make. Takes half a minute; exit status
    1 when a claim does not hold, or cannot be shown here.
    """
    from palyra_trio.cli.demo_roam import play

    _show(play)


def _show(play: Callable[[Path, Claims], Awaitable[None]]) -> NoReturn:
    """Play in a temporary folder, within a limit, and exit with what came of the claims."""
    claims = Claims()

    async def bounded(folder: Path) -> None:
        with trio.move_on_after(LIMIT_S) as limit:
            await play(folder, claims)
        if limit.cancelled_caught:
            claims.claim(f"the demonstration ends within {LIMIT_S:g} s", False)

    with tempfile.TemporaryDirectory(prefix="palyra-trio-demo-", ignore_cleanup_errors=True) as folder:
        trio.run(bounded, Path(folder).resolve())
    click.echo(
        f"\n{claims.held} claims hold, {claims.failed} {'does' if claims.failed == 1 else 'do'} not or could not be shown"
    )
    sys.exit(exit_codes.FAILED if claims.failed else exit_codes.OK)
