"""``unionfs stop``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.store_option import container_option


@click.command()
@container_option
@click.option(
    "-t", "--time", "timeout", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Seconds before SIGKILL."
)
@click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)
def stop(root: Path | None, timeout: float, containers: tuple[str, ...]) -> None:
    """Ask each CONTAINER to end, and kill it if it does not.

    Returns when it has ended and nothing of it is mounted any more.

    \b
    Example:
      unionfs stop -t 2 web
    """
    from unionfs.containers import lifecycle
    from unionfs.store.location import store_root

    for container in containers:
        click.echo(lifecycle.stop(store_root(root), container, timeout))
