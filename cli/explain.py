"""``unionfs explain``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from unionfs.cli.output import print_json
from unionfs.mounter.errors import MounterError, printable

_TYPES = {
    "f": "file",
    "d": "directory",
    "l": "symbolic link",
    "p": "fifo",
    "s": "socket",
    "c": "character device",
    "b": "block device",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("paths", metavar="PATH...", type=click.Path(path_type=Path), nargs=-1, required=True)
def explain(as_json: bool, paths: tuple[Path, ...]) -> None:
    """Tell which layer each PATH of a union comes from.

    Also whether it was copied up, and what it hides in the layers below; of a PATH that is not there, why it is not.

    \b
    Example:
      unionfs explain /mnt/etc/passwd
      unionfs explain --json /mnt/etc/* | jq -r '.[] | select(.copied_up) | .real_path'
    """
    answers = [_ask(path) for path in paths]
    if as_json:
        print_json(answers)
        return
    for path, answer in zip(paths, answers, strict=True):
        for line in _lines(path, answer):
            click.echo(line)


def _ask(path: Path) -> dict[str, Any]:
    from unionfs.mounter.control import ask
    from unionfs.mounter.lookup import living_mount_around

    mount, inside = living_mount_around(path)
    try:
        answer: dict[str, Any] = ask(mount.directory, "explain", path=os.fsdecode(inside))
    except OSError as error:
        raise MounterError(str(path), (error.strerror or str(error)).lower(), "correct the path") from None
    return {"mountpoint": mount.record.mountpoint, **answer}


def _lines(path: Path, answer: dict[str, Any]) -> Iterator[str]:
    shown = printable(str(path))
    kind = answer["type"]
    if kind == "missing":
        yield f"{shown}: in no layer"
        return
    if kind == "whiteout":
        yield f"{shown}: deleted, by a whiteout in {_place(answer)}"
    else:
        copied = ", copied up" if answer["copied_up"] else ""
        yield f"{shown}: {_TYPES[kind]} from {_place(answer)}{copied}"
    if len(answer["merged"]) > 1:
        yield f"  merges {', '.join(answer['merged'])}"
    data = answer["data"]
    if data is not None:
        missing = f"missing: no data-only layer has {printable(data['real_path'])}"
        yield f"  its data is {'in ' + _place(data) if data['layer'] else missing}"
    for hidden in answer["hides"]:
        yield f"  hides {_TYPES.get(hidden['type'], hidden['type'])} in {_place(hidden)}"


def _place(where: dict[str, Any]) -> str:
    return f"{where['layer']} ({printable(where['real_path'])})"
