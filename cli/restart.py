"""``unionfs restart``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.output import printable


@click.command()
@click.argument("merged", type=click.Path(path_type=Path))
def restart(merged: Path) -> None:
    """Go on serving MERGED with the version that is installed now.

    Programs that use the mount notice a pause and nothing else: their files stay open, no system call fails.  The new version is
    tried first; one that does not load leaves the mount as it is.

    \b
    Example:
      unionfs restart /mnt
    """
    from unionfs.mounter.restarting import restart as replace

    done = replace(merged)
    click.echo(f"{printable(str(merged))}: process {done.new} serves it now, after {done.takeover_ms:g} ms")
