"""``unionfs mount``."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from unionfs.mounter.errors import printable
from unionfs.mounter.options import DATA_PATHS, TRANSPORTS, parse_options
from unionfs.mounter.request import MountRequest, build_request

_DIRECTORY = click.Path(path_type=Path)


@click.command()
@click.option("-l", "--lower", "lowers", type=_DIRECTORY, multiple=True, help="A read-only layer; the first one is on top.")
@click.option(
    "--data", type=_DIRECTORY, multiple=True, help="A data-only layer: holds data of files whose metadata is in a lower layer."
)
@click.option("-u", "--upper", type=_DIRECTORY, help="The writable layer; without one the union is read-only.")
@click.option(
    "-w", "--work", type=_DIRECTORY, help="Staging directory on the mount of the upper.  [default: .NAME.work beside the upper]"
)
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="Mount options, separated by commas (docs/commands.md).")
@click.option("-r", "--read-only", is_flag=True, help="The same as -o ro: an upper is looked at, not written.")
@click.option("-f", "--foreground", is_flag=True, help="Serve in this process until unmounted; ctrl-C unmounts.")
@click.option("--transport", type=click.Choice(TRANSPORTS), help="How requests reach the union.  [default: direct]")
@click.option("--data-path", type=click.Choice(DATA_PATHS), help="How file contents do.  [default: auto]")
@click.option("--size", help="How much the upper may take: bytes, or with k, M, G, T (docs/size-limit.md).  [default: no limit]")
@click.option("--log", type=_DIRECTORY, help="File for the daemon's warnings.  [default: /var/log/unionfs/MERGED.log]")
@click.option("-v", "--verbose", is_flag=True, help="Log more than warnings.")
@click.argument("merged", type=_DIRECTORY)
def mount(
    lowers: tuple[Path, ...],
    data: tuple[Path, ...],
    upper: Path | None,
    work: Path | None,
    options: tuple[str, ...],
    read_only: bool,
    foreground: bool,
    transport: str | None,
    data_path: str | None,
    size: str | None,
    log: Path | None,
    verbose: bool,
    merged: Path,
) -> int:
    """Mount the union of the layers on the directory MERGED.

    Returns when the mount is ready; a daemon serves it until it is unmounted.  With -o the layers can be given as for the
    kernel's OverlayFS; in names a comma is written \\, and a colon \\: there.

    \b
    Example:
      unionfs mount -l /srv/patches -l /srv/base -u /srv/changes /mnt
      unionfs mount -o lowerdir=/srv/patches:/srv/base,ro,noexec /mnt
    """
    words = list(options)
    if read_only:
        words.append("ro")
    if transport:
        words.append(f"transport={transport}")
    if data_path:
        words.append(f"data_path={data_path}")
    if size:
        words.append(f"size={size}")
    parsed = parse_options(words)
    if log:
        parsed.settings["log"] = log
    request = build_request(parsed, merged, lowers=lowers, data=data, upper=upper, work=work)
    return run_mount(request, foreground=foreground, level=logging.INFO if verbose else logging.WARNING)


def run_mount(request: MountRequest, *, foreground: bool, level: int = logging.WARNING) -> int:
    """Mount as asked; the exit status of the program: 130 where ctrl-C ended a mount in the foreground, as shells count it."""
    from unionfs.mounter.daemon import serve_in_foreground, start_daemon

    if not foreground:
        start_daemon(request, level)
        return 0
    import signal

    def ready() -> None:
        click.echo(f"{printable(str(request.mountpoint))}: mounted; ctrl-C unmounts", err=True)

    stopped_by = serve_in_foreground(request, ready, level)
    return 128 + signal.SIGINT if stopped_by is signal.SIGINT else 0
