"""``unionfs umount``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.mounter.errors import printable


@click.command()
@click.option("-l", "--lazy", is_flag=True, help="Detach it at once, though it is in use; its last user ends it.")
@click.argument("merged", type=click.Path(path_type=Path), nargs=-1, required=True)
def umount(lazy: bool, merged: tuple[Path, ...]) -> None:
    """Unmount the union on each directory MERGED.

    Returns when its daemon has ended: from then on its layers can be used for another mount.  It also takes away the mount of a
    daemon that was killed.

    \b
    Example:
      unionfs umount /mnt
    """
    from unionfs.mounter.unmounting import unmount_union

    for path in merged:
        left = unmount_union(path, lazy)
        if left:
            click.echo(
                f"{printable(str(path))}: still in use; process {left.record.pid} serves it until its last user has gone",
                err=True,
            )
