"""``unionfs metrics``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, which is replaced in one step, instead of standard output.",
)
@click.argument("merged", nargs=-1, type=click.Path(path_type=Path))
def metrics(output: Path | None, merged: tuple[Path, ...]) -> None:
    """Print figures of unions for Prometheus.

    Of those on MERGED; without MERGED of all that are mounted.  In the text format, ready for the textfile collector of the node
    exporter: histograms of request times, errors, copy-ups, inodes, open files, memory and processor time of each daemon.  A
    union whose daemon is dead, or does not answer, has just unionfs_up 0.

    \b
    Example:
      unionfs metrics /mnt
      unionfs metrics --output /var/lib/prometheus/node-exporter/unionfs.prom
    """
    from prometheus_client import generate_latest, write_to_textfile

    from unionfs.cli.prometheus import registry_of
    from unionfs.mounter.lookup import known_mount
    from unionfs.mounter.registry import registered_mounts

    registry = registry_of([known_mount(path) for path in merged] if merged else registered_mounts())
    if output is None:
        click.echo(generate_latest(registry).decode(), nl=False)
        return
    try:
        write_to_textfile(str(output), registry)
    except OSError as error:
        raise click.ClickException(
            f"{output}: cannot be written: {error.strerror}; name a file in a directory that is yours"
        ) from None
