"""`palyra-trio completion`: the script by which a shell completes this command."""

import click
from click.shell_completion import get_completion_class

PROGRAM = "palyra-trio"
VARIABLE = "_PALYRA_TRIO_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  palyra-trio completion bash > ~/.local/share/bash-completion/completions/palyra-trio
    zsh:   palyra-trio completion zsh > "${fpath[1]}/_palyra-trio"
    fish:  palyra-trio completion fish > ~/.config/fish/completions/palyra-trio.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
