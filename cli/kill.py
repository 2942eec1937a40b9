"""``unionfs kill``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.store_option import container_option


@click.command()
@container_option
@click.option("-s", "--signal", "number", metavar="SIGNAL", default="KILL", show_default=True, help="Which signal.")
@click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)
def kill(root: Path | None, number: str, containers: tuple[str, ...]) -> None:
    """Send a signal to the first process of each CONTAINER.

    \b
    Example:
      unionfs kill -s HUP web
    """
    from unionfs.containers import lifecycle
    from unionfs.containers.options import parse_signal
    from unionfs.store.location import store_root

    wanted = parse_signal(number)
    for container in containers:
        click.echo(lifecycle.kill(store_root(root), container, wanted))
