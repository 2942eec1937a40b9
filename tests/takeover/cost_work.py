"""What `tests.takeover.cost` measures: requests of one kind after another, and programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

BATCH = 200
"""Requests of one kind between two looks at the clock."""

_CONTENT = b"x" * 1500


class Operation(NamedTuple):
    """What is measured: ``run`` does it in ``lower`` or ``upper``, directories of its own."""

    name: str
    run: Callable[[Path, Path], None]


class Work(NamedTuple):
    """Operations that follow one another: each needs what those before it have left.

    Attributes:
        name: of one step of an operation.
        unit: of time, in which a step is told: its name, and how many make a second.
        steps: how many an operation makes.
        make_lower: fills a directory of the lower layer, for one run of all.
        operations: these.
    """

    name: str
    unit: tuple[str, float]
    steps: int
    make_lower: Callable[[Path], None]
    operations: tuple[Operation, ...]


def _names(directory: Path) -> Iterator[str]:
    return (f"{directory}/{number}" for number in range(BATCH))


def _look_up(lower: Path, _upper: Path) -> None:
    for name in _names(lower):
        os.stat(name)


def _look_up_absent(lower: Path, _upper: Path) -> None:
    for name in _names(lower / "absent"):
        os.path.lexists(name)


def _list(lower: Path, _upper: Path) -> None:
    with os.scandir(lower / "listed") as found:
        for entry in found:
            entry.stat()


def _read(lower: Path, _upper: Path) -> None:
    for name in _names(lower):
        with open(name, "rb", buffering=0) as file:
            file.read()


def _copy_up(lower: Path, _upper: Path) -> None:
    for name in _names(lower):
        with open(name, "ab", buffering=0) as file:
            file.write(b"x")


def _create(_lower: Path, upper: Path) -> None:
    for name in _names(upper):
        with open(name, "wb", buffering=0) as file:
            file.write(_CONTENT)


def _rename(_lower: Path, upper: Path) -> None:
    for name in _names(upper):
        os.rename(name, f"{name}-renamed")


def _link(_lower: Path, upper: Path) -> None:
    for name in _names(upper):
        os.link(f"{name}-renamed", name)


def _chmod(_lower: Path, upper: Path) -> None:
    for name in _names(upper):
        os.chmod(name, 0o600)


def _unlink(_lower: Path, upper: Path) -> None:
    for name in _names(upper):
        os.unlink(name)
        os.unlink(f"{name}-renamed")


def _mkdir(_lower: Path, upper: Path) -> None:
    for name in _names(upper):
        os.mkdir(f"{name}-directory")


def _rmdir(_lower: Path, upper: Path) -> None:
    for name in _names(upper):
        os.rmdir(f"{name}-directory")


def _make_files(lower: Path) -> None:
    for directory in (lower, lower / "listed"):
        directory.mkdir(parents=True)
        for name in _names(directory):
            Path(name).write_bytes(_CONTENT)


REQUESTS = Work(
    "one request",
    ("µs", 1e6),
    BATCH,
    _make_files,
    (
        Operation("look up a name, cold", _look_up),
        Operation("look up a name that is not there", _look_up_absent),
        Operation("list and stat, cold", _list),
        Operation("open, read and close, cold", _read),
        Operation("open, read and close, warm", _read),
        Operation("append a byte to a lower file", _copy_up),
        Operation("create and write 1.5 kB", _create),
        Operation("rename", _rename),
        Operation("link", _link),
        Operation("chmod", _chmod),
        Operation("unlink", _unlink),
        Operation("mkdir", _mkdir),
        Operation("rmdir", _rmdir),
    ),
)


# -- programs -----------------------------------------------------------------------------------------------------------------


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _make_tree(lower: Path) -> None:
    """Of 600 files, 6 MB."""
    for number in range(600):
        file = lower / f"tree/{number % 10}/{number % 30}/{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d of a line\n" % number * (number % 60 * 20 + 10))


PROGRAMS = Work(
    "one program",
    ("ms", 1e3),
    1,
    _make_tree,
    (
        Operation("find, cold", lambda lower, _: _run("find", lower / "tree", "-size", "+1M")),
        Operation("grep -r, cold", lambda lower, _: _run("grep", "-rl", "7 of a line", lower / "tree")),
        Operation("grep -r, warm", lambda lower, _: _run("grep", "-rl", "7 of a line", lower / "tree")),
        Operation("cp -a", lambda lower, upper: _run("cp", "-a", lower / "tree", upper / "copy")),
        Operation("tar c", lambda _, upper: _run("tar", "cf", upper / "tar", "-C", upper, "copy")),
        Operation("rm -r", lambda _, upper: _run("rm", "-r", upper / "copy")),
        Operation("tar x", lambda _, upper: _run("tar", "xf", upper / "tar", "-C", upper)),
        Operation("chmod -R of a lower tree", lambda lower, _: _run("chmod", "-R", "go-r", lower / "tree")),
        Operation("rm -r of a lower tree", lambda lower, _: _run("rm", "-r", lower / "tree")),
    ),
)
