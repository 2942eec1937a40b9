"""``fuse-unionfs``: takes the arguments of fuse-overlayfs, so that podman, buildah, dockerd and containerd can use it in its
place."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from unionfs.cli.mount import run_mount
from unionfs.cli.program import Program
from unionfs.mounter.errors import printable
from unionfs.mounter.options import Dialect, parse_options
from unionfs.mounter.request import build_request


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="Mount options; unknown ones are ignored with a warning.")
@click.option("-f", "foreground", is_flag=True, help="Stay in the foreground.")
@click.option("-d", "--debug", is_flag=True, help="Stay in the foreground and log everything.")
# podman asks for --version and shows what is printed; fuse-overlayfs and libfuse also know -V.
@click.version_option(None, "-V", "--version", package_name="unionfs", message="%(prog)s: version %(version)s")
@click.argument("arguments", metavar="[SOURCE] TARGET", nargs=-1, type=click.Path(path_type=Path))
def fuse_unionfs(options: tuple[str, ...], foreground: bool, debug: bool, arguments: tuple[Path, ...]) -> int:
    """Mount a union on TARGET, as fuse-overlayfs does.  SOURCE is only what is shown in /proc/mounts.

    \b
    Example:
      fuse-unionfs -o lowerdir=/srv/patches:/srv/base,upperdir=/srv/changes,workdir=/srv/work /mnt
      podman --storage-opt overlay.mount_program=/usr/bin/fuse-unionfs run ...
    """
    if len(arguments) not in (1, 2):
        raise click.UsageError(f"one mount point is needed, {len(arguments)} arguments were given")
    *source, target = arguments
    parsed = parse_options(options, Dialect.FUSE_OVERLAYFS)
    for warning in parsed.warnings:
        click.echo(f"fuse-unionfs: {printable(warning)}", err=True)
    if source:
        parsed.settings.setdefault("source", str(source[0]))
    request = build_request(parsed, target, dialect=Dialect.FUSE_OVERLAYFS)
    return run_mount(request, foreground=foreground or debug, level=logging.DEBUG if debug else logging.WARNING)


def main() -> None:
    """Entry point of the console script."""
    fuse_unionfs(prog_name="fuse-unionfs")


if __name__ == "__main__":
    main()
