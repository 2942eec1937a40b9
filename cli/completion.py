"""``unionfs completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Example:
      unionfs completion bash > /etc/bash_completion.d/unionfs
      unionfs completion fish > ~/.config/fish/completions/unionfs.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None  # click has all three
    click.echo(complete(ctx.find_root().command, {}, "unionfs", "_UNIONFS_COMPLETE").source())
