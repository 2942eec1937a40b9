"""``unionfs rm``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.store_option import container_option


@click.command()
@container_option
@click.option("-f", "--force", is_flag=True, help="Kill it if it runs.")
@click.option("-v", "--volumes", "with_volumes", is_flag=True, help="Remove its anonymous volumes, too.")
@click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)
def rm(root: Path | None, force: bool, with_volumes: bool, containers: tuple[str, ...]) -> None:
    """Remove each CONTAINER, with all that was changed in it.

    \b
    Example:
      unionfs rm web
    """
    from unionfs.containers import lifecycle
    from unionfs.store.location import store_root

    for container in containers:
        click.echo(lifecycle.remove(store_root(root), container, force=force, with_volumes=with_volumes))
