"""``unionfs logs``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from unionfs.cli.store_option import container_option


@click.command()
@container_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the container has ended.")
@click.option("--tail", metavar="N", type=click.IntRange(min=0), help="Only the last N lines.  [default: all]")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was written.")
@click.argument("container")
def logs(root: Path | None, follow: bool, tail: int | None, timestamps: bool, container: str) -> None:
    """Print what CONTAINER wrote to stdout and stderr.

    \b
    Example:
      unionfs logs --tail 20 -f web
    """
    from unionfs.containers.container_log import read_log
    from unionfs.containers.lifecycle import opened
    from unionfs.store.location import store_root

    with opened(store_root(root)) as (_, containers):
        found = containers.find(container)
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    for entry in read_log(found.directory, tail=tail, is_over=(lambda: not found.has_monitor) if follow else None):
        target = streams[entry.stream]
        target.write((entry.time.encode() + b" " if timestamps else b"") + entry.data)
        target.flush()
