"""``unionfs status``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from unionfs.cli.output import print_json, print_pairs


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("merged", type=click.Path(path_type=Path))
def status(as_json: bool, merged: Path) -> None:
    """Show how the union on MERGED is doing.

    Its layers, what was negotiated with the kernel, the requests so far, the sizes of the caches.

    \b
    Example:
      unionfs status /mnt
      unionfs status --json /mnt | jq .requests
    """
    from unionfs.mounter.control import ask
    from unionfs.mounter.lookup import living_mount

    mount = living_mount(merged)
    answer: dict[str, Any] = {"state": mount.state.value, **ask(mount.directory, "status")}
    if as_json:
        print_json(answer)
    else:
        print_pairs(list(_pairs(answer)))


def _pairs(answer: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "merged", answer["mountpoint"]
    yield "state", f"{answer['state']}, {'read-only' if answer['read_only'] else 'writable'}"
    yield "since", datetime.datetime.fromtimestamp(answer["mounted_at"]).astimezone().isoformat(sep=" ", timespec="seconds")
    yield "daemon", f"process {answer['pid']}"
    yield "log", answer["log"]
    if answer["upper"]:
        yield "upper", answer["upper"]
        yield "work", answer["work"]
    for index, lower in enumerate(answer["lowers"]):
        yield f"lower[{index}]", lower
    for index, data in enumerate(answer["data"]):
        yield f"data[{index}]", data
    for section in ("negotiated", "requests", "union"):
        for name, value in sorted(answer[section].items()):
            # Of the requests most kinds never come.
            if value != 0 or section != "requests":
                yield f"{section}.{name}", " ".join(map(str, value)) if isinstance(value, list) else value
