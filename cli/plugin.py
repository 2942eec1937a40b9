"""``unionfs plugin``."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click

from unionfs.cli.store_option import root_option


@click.group(no_args_is_help=True)
def plugin() -> None:
    """Let other programs use our volumes.

    \b
    Example:
      unionfs plugin serve
      docker volume create -d unionfs data
    """


@plugin.command()
@root_option
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where engines find the plugin (default: the socket that systemd hands over, else /run/docker/plugins/unionfs.sock).",
)
@click.option("-v", "--verbose", is_flag=True, help="Say what is done for engines.")
def serve(root: Path | None, path: Path | None, verbose: bool) -> None:
    """Serve our volumes to dockerd and podman as a volume plugin, until SIGTERM.

    What is mounted stays so when it ends, or is killed: containers that run do not notice, and a plugin that is started anew
    goes on.

    \b
    Example:
      unionfs plugin serve
      unionfs plugin serve --root /srv/unionfs --socket /run/docker/plugins/fast.sock
    """
    import logging

    from unionfs.adapters.volume_plugin.server import serve as serve_plugin
    from unionfs.mounter.log import log_to_stderr

    log_to_stderr(logging.INFO if verbose else logging.WARNING)
    with _listening(path) as listener:
        serve_plugin(listener, root)


@contextlib.contextmanager
def _listening(path: Path | None) -> Iterator[socket.socket]:
    from unionfs.adapters.volume_plugin.sockets import DEFAULT_SOCKET, own_socket, passed_socket

    passed = passed_socket(os.environ)
    if passed is None:
        with own_socket(path or DEFAULT_SOCKET) as listener:
            yield listener
        return
    with passed:
        if path is not None:
            raise click.UsageError("--socket is given, and systemd has handed over a socket")
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
        yield passed
