"""``unionfs export``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from unionfs.cli.store_option import container_option


@click.command()
@container_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write it.  [default: standard output]")
@click.argument("name", metavar="CONTAINER|IMAGE")
def export(root: Path | None, output: Path | None, name: str) -> None:
    """Write the files of CONTAINER or IMAGE as a tar.

    \b
    Example:
      unionfs export web -o web.tar
      unionfs export debian:12 | tar -t
    """
    from unionfs.containers.archive_file import write_archive
    from unionfs.containers.export import export as archive
    from unionfs.store.location import store_root

    if output is None and sys.stdout.isatty():
        raise click.UsageError("a terminal is no place for an archive: give a file (--output), or a pipe")
    write_archive(archive(store_root(root), name), output)
