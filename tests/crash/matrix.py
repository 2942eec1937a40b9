"""All crashes; ``python -m tests.crash.matrix`` prints the tables of docs/crash.md."""

from __future__ import annotations

import argparse
import collections
import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.crash.declared import undeclared
from tests.crash.disk import BTRFS, KINDS, Disk
from tests.crash.killing import kills
from tests.crash.power import broken_promises, cuts
from tests.crash.promises import promises
from tests.crash.scenario import Judgement, Outcome, Scenario
from tests.crash.snapshots import snapshot_changes
from tests.crash.stores import store_changes
from tests.crash.unions import changes, durable
from unionfs.linux.namespaces import enter_private_mount_namespace
from unionfs.overlay import Options

Groups = Mapping[str, Mapping[str, Scenario]]
"""Changes by name, by the options in words."""

KILLED = "SIGKILL"
_NOT_SHOWN_BY_KERNEL = "index"
"""OverlayFS refuses an index of ours on Btrfs: an origin there has no UUID."""


class Crash(NamedTuple):
    """One crash: how (`KILLED`, or the filesystem whose disk lost its power), in which change, before which system call."""

    way: str
    group: str
    change: str
    call: str
    judgement: Judgement

    def problems(self) -> list[str]:
        """What is wrong, in words that tell where."""
        where = f"{self.group}, {self.change}"
        found = undeclared(f"{self.way}: {where}", self.judgement.problems)
        return [f"{self.way}: {where}: before {self.call}: {problem}" for problem in found]


def all_groups(*, is_durable: bool, by_kernel: bool = True) -> Groups:
    """Every change.  ``is_durable``: nothing may be lost when the power fails.  ``by_kernel``: OverlayFS knows our index."""
    groups: dict[str, dict[str, Scenario]] = collections.defaultdict(dict)
    for options, name, change in changes():
        asked = by_kernel or _NOT_SHOWN_BY_KERNEL not in options
        groups[options][name] = change._replace(
            options=durable(change.options) if is_durable else change.options, by_kernel=asked
        )
    groups["snapshots"] = dict(snapshot_changes(Options(index="on", fsync="auto" if is_durable else "volatile")))
    groups["store"] = dict(store_changes())
    return groups


def all_promises(*, by_kernel: bool = True) -> Groups:
    """Every change after which its effect is on the disk."""
    groups: dict[str, dict[str, Scenario]] = collections.defaultdict(dict)
    for options, name, change in promises():
        groups[options][name] = change._replace(by_kernel=by_kernel or _NOT_SHOWN_BY_KERNEL not in options)
    of_snapshots = dict(snapshot_changes(Options(index="on")))
    groups["snapshots"] = {name: change for name, change in of_snapshots.items() if name.startswith(("snapshot", "rollback"))}
    groups["store"] = {name: change for name, change in store_changes() if name.startswith(("import", "creation", "commit"))}
    return groups


def killed(directory: Path, changed: Mapping[str, Scenario], points: Callable[[int], Iterable[int]] = range) -> Iterator[Crash]:
    """Kill each change before some of its system calls: those of ``points``, which is told how many there are."""
    for number, (name, scenario) in enumerate(changed.items()):
        for call, judgement in kills(directory / str(number), scenario, points):
            yield Crash(KILLED, "", name, call, judgement)


class Task(NamedTuple):
    """Some of the crashes: ``way`` as in `Crash`; ``promised``: right after the changes; ``between`` as in `cuts`."""

    way: str
    group: str
    promised: bool = False
    between: bool = False

    def crashes(self, directory: Path) -> list[Crash]:
        """Carry it out, in a new directory."""
        os.environ["UNIONFS_RUNTIME_DIR"] = str(directory / "run")
        by_kernel = self.way != BTRFS.name
        if self.way == KILLED:
            found = killed(directory, all_groups(is_durable=False)[self.group])
            return [crash._replace(group=self.group) for crash in found]
        disk = Disk(directory / "disk", KINDS[self.way])
        if self.promised:
            cut = broken_promises(disk, all_promises(by_kernel=by_kernel)[self.group])
        else:
            cut = cuts(disk, all_groups(is_durable=True, by_kernel=by_kernel)[self.group], between=self.between)
        return [Crash(self.way, self.group, *each) for each in cut]


# -- the tables -----------------------------------------------------------------------------------------------------------


def print_crashes(crashes: list[Crash]) -> None:
    """How many crashes of each kind left what; a row for each change."""
    ways = list(dict.fromkeys(crash.way for crash in crashes))
    print("| options | change |" + "".join(f" {way}: crashes | before | after | data behind |" for way in ways) + " wrong |")
    print("|---|---|" + "---|" * (4 * len(ways) + 1))
    rows: dict[tuple[str, str], list[Crash]] = collections.defaultdict(list)
    for crash in crashes:
        rows[crash.group, crash.change].append(crash)
    for (group, change), found in rows.items():
        print(_row(group, change, found, ways))
    print(_row("", "all", crashes, ways))


def _row(group: str, change: str, crashes: list[Crash], ways: Iterable[str]) -> str:
    cells: list[object] = [group, change]
    for way in ways:
        outcomes = collections.Counter(crash.judgement.outcome for crash in crashes if crash.way == way)
        counts = [outcomes.total(), *(outcomes[outcome] for outcome in (Outcome.BEFORE, Outcome.AFTER, Outcome.BEHIND))]
        cells += counts if outcomes else ["-"] * len(counts)
    cells.append(sum(bool(crash.problems()) for crash in crashes))
    return f"| {' | '.join(map(str, cells))} |"


def print_promises(crashes: list[Crash]) -> None:
    """How many changes each filesystem kept; a row for each set of options."""
    ways = list(dict.fromkeys(crash.way for crash in crashes))
    print(f"| options | changes | {' | '.join(f'kept on {way}' for way in ways)} | wrong |")
    print("|---|---|" + "---|" * (len(ways) + 1))
    for group in dict.fromkeys(crash.group for crash in crashes):
        found = [crash for crash in crashes if crash.group == group]
        kept = [sum(crash.way == way and not is_broken(crash) for crash in found) for way in ways]
        changed = len({crash.change for crash in found})
        print(f"| {' | '.join(map(str, (group, changed, *kept, sum(map(is_broken, found)))))} |")


def is_broken(crash: Crash) -> bool:
    """Whether something that was promised is not there, or anything else is wrong."""
    return crash.judgement.outcome in (Outcome.BEFORE, Outcome.BEHIND) or bool(crash.problems())


def _tasks(arguments: argparse.Namespace) -> Iterator[Task]:
    ways = arguments.filesystem or KINDS
    for group, way in itertools.product(all_groups(is_durable=True), (KILLED, *ways)):
        yield Task(way, group, between=arguments.between)
    for group, way in itertools.product(all_promises(), ways):
        yield Task(way, group, promised=True)


def _carry_out(directory: Path, numbered: tuple[int, Task]) -> list[Crash]:
    number, task = numbered
    crashes = task.crashes(directory / str(number))
    print(f"{task.way}: {task.group}: {len(crashes)}{' promises' * task.promised}", file=sys.stderr, flush=True)
    return crashes


def main() -> int:
    """Print the tables, and what is wrong on stderr; status 1 if anything is."""
    parser = argparse.ArgumentParser(prog="scripts/crash", description=__doc__)
    parser.add_argument("--filesystem", action="append", choices=KINDS, help="cut the power of these alone; default: of all")
    parser.add_argument("--options", action="append", help="only changes of unions with these options, `snapshots` or `store`")
    parser.add_argument("--between", action="store_true", help="cut the power between two system calls too")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="how many at a time; they wait a lot")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a mount that cleans up after a crash says so
    # Of its own: who copies the mounts for a namespace keeps a filesystem that is unmounted here, and its disk, in use.
    enter_private_mount_namespace()
    tasks = [task for task in _tasks(arguments) if task.group in (arguments.options or [task.group])]
    with tempfile.TemporaryDirectory(prefix="unionfs-crash-") as name, ProcessPoolExecutor(arguments.jobs) as pool:
        done = list(zip(tasks, pool.map(partial(_carry_out, Path(name)), enumerate(tasks)), strict=True))
    crashes = [crash for task, found in done if not task.promised for crash in found]
    promised = [crash for task, found in done if task.promised for crash in found]
    print_crashes(crashes)
    print()
    print_promises(promised)
    problems = [problem for crash in (*crashes, *promised) for problem in crash.problems()]
    problems += [f"{crash.way}: {crash.group}, {crash.change}: not kept" for crash in promised if is_broken(crash)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
