"""``unionfs gc``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from unionfs.cli.output import print_json
from unionfs.cli.store_option import store_option
from unionfs.cli.units import size_text


@click.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(root: Path | None, as_json: bool) -> None:
    """Remove what nobody needs from the store.

    That is what killed commands left, layers that nothing stands on, and snapshots of images that are gone.  Images and volumes
    stay: see "unionfs image prune" and "unionfs volume prune".

    \b
    Example:
      unionfs gc
    """
    from unionfs.cli.collecting import collect_all
    from unionfs.store.store import open_store
    from unionfs.volumes import open_volumes

    with open_store(root) as store:
        collected = collect_all(store)
        volumes = open_volumes(store).collect()
    if as_json:
        print_json({**dataclasses.asdict(collected), "volumes": volumes})
        return
    counts = {
        "layers": len(collected.layers),
        "snapshots": len(collected.snapshots),
        "configs": len(collected.configs),
        "left-over directories": len(collected.staging) + len(volumes),
    }
    click.echo(f"removed {', '.join(f'{count} {what}' for what, count in counts.items())}; freed {size_text(collected.freed)}")
    if not collected.is_complete:
        click.echo("something is being added to the store: run it again afterwards for the layers")
