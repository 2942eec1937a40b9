"""What a mount that outlives its daemon costs: the same requests, in turns, to one with a journal and to one without.

Both run the same code but for `NoJournal` in the place of the journal, and so without anything that another worker would need.
They take turns every few milliseconds, and the order changes each time, so that whatever else the machine does strikes both.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.load.report import print_table
from tests.load.world import DATA_PATHS

BATCH = 200
"""Requests of one kind between two looks at the clock."""

_CONTENT = b"x" * 1500

_WITHOUT_JOURNAL = """
import unionfs.mounter.worker
from unionfs.cli.main import main
from unionfs.journal.journal import NoJournal
unionfs.mounter.worker.Journal = lambda _file: NoJournal()
main()
"""
_AS_IT_IS = "from unionfs.cli.main import main; main()"


class Operation(NamedTuple):
    """What is measured: ``run`` does it `BATCH` times in ``lower`` or ``upper``, directories of a batch of its own."""

    name: str
    run: Callable[[Path, Path], None]


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


OPERATIONS = (
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
)
"""In this order: each needs what those before it have left."""


class Measured(NamedTuple):
    """Of one operation: the medians in microseconds for one request, and the middle of the ratios with where it lies by 95 %."""

    name: str
    with_journal: float
    without: float
    ratio: float
    low: float
    high: float


def measure(data_path: str, batches: int) -> list[Measured]:
    """Let both mounts do the same so many times."""
    with _both_mounted(data_path, batches) as (kept, bare):
        seconds: list[list[tuple[float, float]]] = [[] for _ in OPERATIONS]
        for batch in range(batches):
            for top in (kept, bare):
                (top / f"made-{batch}").mkdir()
            for number, operation in enumerate(OPERATIONS):
                first, second = (kept, bare) if (batch + number) % 2 else (bare, kept)
                took = {top: _time(operation, top, batch) for top in (first, second)}
                seconds[number].append((took[kept], took[bare]))
    return [_evaluate(operation.name, pairs) for operation, pairs in zip(OPERATIONS, seconds, strict=True)]


def _time(operation: Operation, top: Path, batch: int) -> float:
    lower, upper = top / f"{batch}", top / f"made-{batch}"
    began = time.perf_counter()
    operation.run(lower, upper)
    return (time.perf_counter() - began) / BATCH


def _evaluate(name: str, pairs: Sequence[tuple[float, float]]) -> Measured:
    ratios = sorted(kept / bare for kept, bare in pairs)
    # The order statistics that enclose the median by 95 % (binomial distribution, as a normal one).
    half = 0.98 * math.sqrt(len(ratios))
    low, high = (ratios[max(0, min(len(ratios) - 1, round(len(ratios) / 2 + sign * half)))] for sign in (-1, 1))
    kept, bare = (statistics.median(column) * 1e6 for column in zip(*pairs, strict=True))
    return Measured(name, kept, bare, statistics.median(ratios), low, high)


@contextmanager
def _both_mounted(data_path: str, batches: int) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="unionfs-cost-") as name:
        top = Path(name)
        mounted: list[Path] = []
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80%,nr_inodes=0", "unionfs-cost", top], check=True)
        try:
            _make_lower(top / "lower", batches)
            for code, which in ((_AS_IT_IS, "kept"), (_WITHOUT_JOURNAL, "bare")):
                for directory in ("upper", "work", "merged"):
                    (top / which / directory).mkdir(parents=True)
                mounted.append(top / which / "merged")
                _unionfs(
                    code, top, "mount", "--data-path", data_path, "-l", top / "lower", "-u", top / which / "upper", mounted[-1]
                )
            yield mounted[0], mounted[1]
        finally:
            for merged in mounted:
                if os.path.ismount(merged):
                    _unionfs(_AS_IT_IS, top, "umount", merged)
            subprocess.run(["umount", top], check=True)


def _unionfs(code: str, top: Path, *arguments: str | Path) -> None:
    environment = os.environ | {"UNIONFS_RUNTIME_DIR": str(top / "run"), "UNIONFS_LOG_DIR": str(top / "log")}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment, timeout=60)


def _make_lower(lower: Path, batches: int) -> None:
    for batch in range(batches):
        for directory in (lower / f"{batch}", lower / f"{batch}/listed"):
            directory.mkdir(parents=True)
            for name in _names(directory):
                Path(name).write_bytes(_CONTENT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/takeover-cost", description=__doc__)
    parser.add_argument("--batches", type=int, default=200, help=f"of {BATCH} requests of each kind (200)")
    parser.add_argument("--data-path", choices=(*DATA_PATHS, "both"), default="both")
    given = parser.parse_args(arguments)
    for path in DATA_PATHS if given.data_path == "both" else (given.data_path,):
        measured = measure(path, given.batches)
        print(f"\n{path}\n")
        print_table(
            ("one request", "with, µs", "without, µs", "ratio", "by 95 %"),
            [
                (
                    each.name,
                    f"{each.with_journal:.1f}",
                    f"{each.without:.1f}",
                    f"{each.ratio:.3f}",
                    f"{each.low:.3f}-{each.high:.3f}",
                )
                for each in measured
            ],
        )
        print(f"\ngeometric mean of the ratios: {statistics.geometric_mean(each.ratio for each in measured):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
