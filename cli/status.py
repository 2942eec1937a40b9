"""``unionfs status``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from unionfs.cli.output import print_json, print_pairs, print_table
from unionfs.fuse.request_times import Times, quantile

_COLUMNS = ("request", "count", "errors", "total ms", "share", "mean us", "50 % us", "99 % us")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--requests", is_flag=True, help="Show the requests of the kernel by kind, and how long they took.")
@click.argument("merged", type=click.Path(path_type=Path))
def status(as_json: bool, requests: bool, merged: Path) -> None:
    """Show how the union on MERGED is doing.

    Its layers, what was negotiated with the kernel, the requests so far, the sizes of the caches, what the daemon takes.

    With --requests a table of the requests: how many, how many of those were answered with an error, how long they took in
    all and which share of all time that is, and the times that half and 99 % of them stayed below (to a factor of two).  A time
    runs from when a request is read to its reply, with the disk and the copying that it waits for.

    \b
    Example:
      unionfs status /mnt
      unionfs status --requests /mnt
      unionfs status --json /mnt | jq .requests
    """
    from unionfs.mounter.control import ask
    from unionfs.mounter.lookup import living_mount

    mount = living_mount(merged)
    answer: dict[str, Any] = {"state": mount.state.value, **ask(mount.directory, "status")}
    if requests:
        times: dict[str, Times] = answer["request_times"]
        if as_json:
            print_json(times)
        else:
            print_table(_COLUMNS, _rows(times))
    elif as_json:
        print_json(answer)
    else:
        print_pairs(list(_pairs(answer)))


def _pairs(answer: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "merged", answer["mountpoint"]
    yield "state", f"{answer['state']}, {'read-only' if answer['read_only'] else 'writable'}"
    yield "since", datetime.datetime.fromtimestamp(answer["mounted_at"]).astimezone().isoformat(sep=" ", timespec="seconds")
    yield "daemon", f"process {answer['pid']}"
    worker = answer["worker"]
    if worker["pid"] != answer["pid"]:
        before = f", after {worker['restarts']} restarts (the last one: {worker['last_end']})" if worker["restarts"] else ""
        yield "worker", f"process {worker['pid']}{before}"
    if answer["lost_nodes"]:
        yield "lost", f"{answer['lost_nodes']} files in use could not be found again after a restart"
    yield "log", answer["log"]
    if answer["upper"]:
        yield "upper", answer["upper"]
        yield "work", answer["work"]
    if "size_limit" in answer["union"]:
        used, limit, project = (answer["union"].get(f"size_{name}") for name in ("used", "limit", "project"))
        kept = f"quota of project {project}" if project else "accounted"
        yield "size limit", f"{kept}, {used} of {limit} bytes taken"
    for index, lower in enumerate(answer["lowers"]):
        yield f"lower[{index}]", lower
    for index, data in enumerate(answer["data"]):
        yield f"data[{index}]", data
    for section in ("negotiated", "process", "requests", "union"):
        for name, value in sorted(answer[section].items()):
            # Of the requests most kinds never come.
            if value != 0 or section != "requests":
                yield f"{section}.{name}", " ".join(map(str, value)) if isinstance(value, list) else value


def _rows(times: dict[str, Times]) -> list[tuple[object, ...]]:
    """What took longest in all comes first."""
    everything = sum(kind["total_ns"] for kind in times.values()) or 1
    return [
        (
            name,
            kind["count"],
            kind["errors"],
            f"{kind['total_ns'] / 1e6:.1f}",
            f"{kind['total_ns'] / everything:.1%}",
            f"{kind['total_ns'] / kind['count'] / 1e3:.1f}",
            f"{quantile(kind['buckets'], 0.5) / 1e3:.1f}",
            f"{quantile(kind['buckets'], 0.99) / 1e3:.1f}",
        )
        for name, kind in sorted(times.items(), key=lambda item: item[1]["total_ns"], reverse=True)
    ]
