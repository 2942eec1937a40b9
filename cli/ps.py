"""``unionfs ps``."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unionfs.cli.output import print_json, print_table
from unionfs.cli.store_option import container_option

if TYPE_CHECKING:
    from unionfs.containers.container import Container
    from unionfs.containers.status import Status

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


@click.command()
@container_option
@click.option("-a", "--all", "shows_all", is_flag=True, help="Also those that have ended.")
@click.option("-q", "--quiet", is_flag=True, help="Print IDs only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(root: Path | None, shows_all: bool, quiet: bool, as_json: bool) -> None:
    """List the containers, the newest first.

    What a killed monitor left of a container is cleaned up first.

    \b
    Example:
      unionfs ps -a
      unionfs ps --json | jq -r '.[].name'
    """
    from unionfs.containers.lifecycle import opened
    from unionfs.containers.recovery import recover
    from unionfs.store.location import store_root

    with opened(store_root(root)) as (store, containers):
        recover(store, containers)
        listed = [(container, container.status()) for container in reversed(containers.all())]
    listed = [(container, status) for container, status in listed if shows_all or status.state == "running"]
    if as_json:
        print_json([_object(container, status) for container, status in listed])
    elif quiet:
        for container, _ in listed:
            click.echo(container.id[:12])
    else:
        print_table(("container", "image", "command", "created", "status", "name"), [_row(*each) for each in listed])


def _object(container: Container, status: Status) -> dict[str, Any]:
    return {
        "id": container.id,
        "name": container.name,
        "image": container.options.image,
        "image_id": container.image,
        "command": list(container.options.command),
        "created": container.created,
        "state": status.state,
        "pid": status.pid if status.state == "running" else None,
        "started": status.started,
        "finished": status.finished,
        "exit_code": status.exit_code,
        "error": status.error,
        "labels": container.options.labels,
        "rootfs": str(container.rootfs),
        "mounts": [mount.to_json() for mount in container.options.mounts],
    }


def _row(container: Container, status: Status) -> tuple[object, ...]:
    created = datetime.datetime.fromtimestamp(container.created).astimezone().isoformat(" ", "seconds")
    words = " ".join(container.options.command)
    return container.id[:12], container.options.image, words, created, _in_words(status), container.name


def _in_words(status: Status) -> str:
    if status.state == "running" and status.started is not None:
        return f"up {_ago(status.started)}"
    if status.state == "exited":
        return f"exited ({status.exit_code})" + (f": {status.error}" if status.error else "")
    return status.state


def _ago(moment: float) -> str:
    seconds = max(0, int(time.time() - moment))
    name, size = next(((name, size) for name, size in _UNITS if seconds >= size), _UNITS[-1])
    count = seconds // size
    return f"{count} {name}{'' if count == 1 else 's'}"
