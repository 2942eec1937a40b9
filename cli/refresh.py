"""``unionfs refresh``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("merged", type=click.Path(path_type=Path))
def refresh(merged: Path) -> None:
    """Show what was changed in the lower layers of MERGED.

    Call it when the change is complete.  Who has a file open that was replaced or removed underneath keeps it with passthrough;
    otherwise what is in memory of it.

    \b
    Example:
      unionfs refresh /mnt
    """
    from unionfs.mounter.layers import refresh as refresh_layers

    refresh_layers(merged)
