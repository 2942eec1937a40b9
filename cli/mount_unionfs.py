"""``mount.unionfs``: the helper that mount(8) runs for ``mount -t unionfs`` and for lines of fstab."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import click

from unionfs.cli.mount import run_mount
from unionfs.cli.program import Program
from unionfs.mounter.options import Dialect, parse_options
from unionfs.mounter.request import build_request


class _MountHelper(Program):
    # mount(8), EXIT STATUS: 32 is a failed mount, 1 wrong usage.
    exit_statuses: ClassVar[dict[int, int]] = {1: 32, 2: 1}


@click.command(cls=_MountHelper, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o", "options", metavar="OPTIONS", multiple=True, help="Mount options; those of fstab for mount(8) itself are passed over."
)
@click.option("-f", "fake", is_flag=True, help="Check everything, mount nothing.")
@click.option("-s", "sloppy", is_flag=True, help="Ignore unknown options instead of failing.")
@click.option("-n", "no_mtab", is_flag=True, help="Accepted: there is no /etc/mtab to write.")
@click.option("-v", "verbose", is_flag=True, help="Log more than warnings.")
@click.option("-t", "fstype", metavar="TYPE", help="Accepted: the type that mount(8) was asked for.")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
def mount_unionfs(
    options: tuple[str, ...],
    fake: bool,
    sloppy: bool,
    no_mtab: bool,
    verbose: bool,
    fstype: str | None,
    source: str,
    target: Path,
) -> int:
    """Mount a union on TARGET, as mount(8) calls it.  SOURCE is only what is shown in /proc/mounts.

    \b
    Example:
      mount -t unionfs union /mnt -o lowerdir=/srv/patches:/srv/base,upperdir=/srv/changes
    """
    del no_mtab, fstype
    parsed = parse_options(options, Dialect.MOUNT_HELPER, ignore_unknown=sloppy)
    parsed.settings.setdefault("source", source)
    request = build_request(parsed, target, dialect=Dialect.MOUNT_HELPER)
    if fake:
        from unionfs.mounter.checks import check

        check(request)
        return 0
    return run_mount(request, foreground=False, level=logging.INFO if verbose else logging.WARNING)


def main() -> None:
    """Entry point of the console script."""
    mount_unionfs(prog_name="mount.unionfs")


if __name__ == "__main__":
    main()
