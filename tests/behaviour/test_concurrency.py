"""Several processes at work on the same objects at the same time.  What counts is what each of them saw, never how long it took.

How often each process does its part: UNIONFS_CONCURRENCY_ROUNDS (default: what fits a run of the whole suite).
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .process import all_at_once
from .tree import Snapshot, differences
from .union import Union

ROUNDS = int(os.environ.get("UNIONFS_CONCURRENCY_ROUNDS", "150"))
PROCESSES = 4

LARGE = bytes(range(256)) * 8192
"""Content that takes a copy-up long enough for others to come while it goes on."""

FOLDERS = [f"d{number}" for number in range(6)]
STEADY = [f"steady{number}" for number in range(300)]


def succeeds(function: Callable[[], object], *expected: int) -> bool:
    """Whether it succeeded; errors other than the expected ones are the caller's."""
    try:
        function()
    except OSError as error:
        if error.errno not in expected:
            raise
        return False
    return True


# -- copy-up ----------------------------------------------------------------------------------------------------------


def open_and_mark(name: str, position: int) -> tuple[int, int]:
    """Open for writing, write one byte; the inode number seen by the open, and how many bytes were written."""
    fd = os.open(name, os.O_RDWR)
    try:
        return os.fstat(fd).st_ino, os.pwrite(fd, b"\xff", position)
    finally:
        os.close(fd)


@pytest.mark.layers({"dir/sub/file": LARGE})
def test_many_openers_of_one_lower_file_share_one_copy(union: Union) -> None:
    before = (union.merged / "dir/sub/file").stat().st_ino
    openers = [partial(open_and_mark, "dir/sub/file", position) for position in range(0, 1000, 100)]
    assert all_at_once(openers, cwd=union.merged) == [(before, 1)] * 10
    # With a second copy, the bytes of those who wrote to the first would be missing.
    expected = bytearray(LARGE)
    expected[0:1000:100] = b"\xff" * 10
    assert (union.merged / "dir/sub/file").read_bytes() == expected
    assert (union.upper / "dir/sub/file").read_bytes() == expected


@pytest.mark.layers({f"{number}": LARGE for number in range(8)})
def test_writers_and_readers_of_files_that_are_copied_up_see_old_or_new_content_and_nothing_between(union: Union) -> None:
    def write() -> None:
        for number in range(8):
            open_and_mark(f"{number}", 0)

    def read() -> set[bytes]:
        found = set()
        for _ in range(max(1, ROUNDS // 20)):
            for number in range(8):
                content = Path(f"{number}").read_bytes()
                assert content[1:] == LARGE[1:]
                found.add(content[:1])
        return found

    for found in all_at_once([write, write, read, read], cwd=union.merged)[2:]:
        assert found <= {LARGE[:1], b"\xff"}
    assert {(union.merged / f"{number}").read_bytes()[:1] for number in range(8)} == {b"\xff"}


@pytest.mark.layers({"deep/er/still/one": b"1", "deep/er/still/two": b"2", "deep/er/three": b"3", "deep/four": b"4"})
def test_directories_that_several_need_at_once_are_copied_up_once(union: Union) -> None:
    names = ("deep/er/still/one", "deep/er/still/two", "deep/er/three", "deep/four")
    numbers = {name: (union.merged / name).stat().st_ino for name in ("deep", "deep/er", "deep/er/still")}
    all_at_once([partial(Path(name).write_bytes, name.encode()) for name in names], cwd=union.merged)
    for name in names:
        assert (union.upper / name).read_bytes() == name.encode()
    assert {name: (union.merged / name).stat().st_ino for name in numbers} == numbers


# -- names ------------------------------------------------------------------------------------------------------------


def move_about(seed: int) -> int:
    """Move folders into each other at random; how often it worked."""
    dice = random.Random(seed)  # noqa: S311 - a sequence to repeat, not a secret
    moved = 0
    for _ in range(ROUNDS):
        places = [".", *(os.fspath(path) for path in folders(Path()))]
        source, target = dice.choice(places), dice.choice(places)
        # ENOENT: another process was faster.  EINVAL: a folder cannot go into itself, and "." not anywhere.
        allowed = errno.ENOENT, errno.EINVAL, errno.EBUSY, errno.ENOTEMPTY
        moved += succeeds(partial(os.rename, source, os.path.join(target, os.path.basename(source))), *allowed)
    return moved


def folders(top: Path) -> Iterator[Path]:
    """The folders to be found now; some may be missed while others move them."""
    pending = [top]
    while pending:
        directory = pending.pop()
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            continue
        found = [directory / name for name in names if name.startswith("d")]
        yield from found
        pending += found


@pytest.mark.mount_options("redirect_dir=on")
@pytest.mark.layers(
    [{f"{name}/middle": name.encode() for name in FOLDERS[:4]}, {f"{name}/bottom": name.encode() for name in FOLDERS[1:]}],
    upper={f"{name}/upper": name.encode() for name in FOLDERS[2:5]},
)
def test_directories_renamed_into_each_other_are_neither_lost_nor_doubled(own_union: Union) -> None:
    merged = own_union.merged
    before = {name: Snapshot.of(merged / name) for name in FOLDERS}
    moved = all_at_once([partial(move_about, seed) for seed in range(PROCESSES)], cwd=merged)
    assert sum(moved) > PROCESSES
    assert sorted(path.name for path in folders(merged)) == FOLDERS

    def contents(folder: Path) -> list[tuple[str, bytes]]:
        return [(name, (folder / name).read_bytes()) for name in ("bottom", "middle", "upper") if (folder / name).exists()]

    for folder in folders(merged):
        files = [name for name in ("bottom", "middle", "upper") if os.fsencode(name) in before[folder.name].records]
        assert contents(folder) == [(name, folder.name.encode()) for name in files]
    seen = Snapshot.of(merged)
    own_union.remount()
    assert differences(seen, Snapshot.of(merged)) == []


@pytest.mark.layers({f"{number}": b"lower" for number in range(PROCESSES)})
def test_a_file_keeps_what_was_written_while_others_remove_its_name(union: Union) -> None:
    def opened(name: str) -> int:
        # The kernel has no place for the copy of a file whose name goes in that moment; the next time there is no lower file.
        if union.deviates("unlinked-lower-changes", kernel=True, ours=False):
            with contextlib.suppress(FileExistsError):
                return os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    def write(name: str) -> None:
        for number in range(ROUNDS):
            fd = opened(name)
            try:
                expected = os.pread(fd, 1 << 20, 0)
                for part in range(4):
                    expected += (record := b"%d.%d;" % (number, part))
                    os.write(fd, record)
                assert os.pread(fd, 1 << 20, 0) == expected
                assert os.fstat(fd).st_size == len(expected)
            finally:
                os.close(fd)

    def remove() -> int:
        names = [f"{number}" for number in range(PROCESSES)]
        return sum(succeeds(partial(os.unlink, name), errno.ENOENT) for _ in range(ROUNDS) for name in names)

    writers = [partial(write, f"{number}") for number in range(PROCESSES)]
    *_, one, other = all_at_once([*writers, remove, remove], cwd=union.merged)
    assert one + other >= PROCESSES
    for name in union.names():
        assert (union.merged / name).read_bytes().endswith(b".3;")


@pytest.mark.layers({"target": b"version 0\n" * 1000})
def test_a_file_that_is_replaced_by_rename_is_always_there_and_whole(union: Union) -> None:
    def replace(writer: int) -> None:
        for number in range(ROUNDS):
            Path(f"new{writer}").write_bytes(b"version %d\n" % number * 1000)
            os.rename(f"new{writer}", "target")

    def read() -> None:
        for _ in range(ROUNDS):
            lines = Path("target").read_bytes().splitlines()
            assert len(lines) == 1000
            assert len(set(lines)) == 1

    all_at_once([partial(replace, 0), partial(replace, 1), read, read], cwd=union.merged)
    assert union.names() == ["target"]


def take_turns(make: Callable[[], object], remove: Callable[[], object]) -> Counter[str]:
    """Make and remove the same name as all others do; how often each worked."""
    done: Counter[str] = Counter()
    for _ in range(ROUNDS):
        done["made"] += succeeds(make, errno.EEXIST)
        done["removed"] += succeeds(remove, errno.ENOENT)
    return done


@pytest.mark.layers({"file": b"lower"})
def test_each_name_is_made_and_removed_by_one_process_at_a_time(union: Union) -> None:
    def make_file() -> None:
        os.close(os.open("file", os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    kinds: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("file", make_file, lambda: os.unlink("file")),
        ("dir", lambda: os.mkdir("dir"), lambda: os.rmdir("dir")),
        ("link", lambda: os.symlink("nowhere", "link"), lambda: os.unlink("link")),
    ]
    for name, make, remove in kinds:
        there = os.path.lexists(union.merged / name)
        done = sum(all_at_once([partial(take_turns, make, remove)] * PROCESSES, cwd=union.merged), Counter())
        assert done["made"] + there - done["removed"] == os.path.lexists(union.merged / name)


# -- listings ---------------------------------------------------------------------------------------------------------


@pytest.mark.layers([dict.fromkeys(STEADY[:200], b""), dict.fromkeys(STEADY[150:], b"")], upper=dict.fromkeys(STEADY[:20], b""))
def test_a_listing_has_every_name_that_stays_once_while_others_come_and_go(union: Union) -> None:
    def churn(process: int) -> None:
        for number in range(ROUNDS * 4):
            name = f"passing{process}.{number % 50}"
            Path(name).touch()
            os.rename(name, f"{name}.renamed")
            os.unlink(f"{name}.renamed")

    def read() -> None:
        for _ in range(max(1, ROUNDS // 5)):
            with os.scandir() as entries:
                found = Counter(entry.name for entry in entries)
            steady = {name: count for name, count in found.items() if name.startswith("steady")}
            assert steady == dict.fromkeys(STEADY, 1)

    all_at_once([partial(churn, 0), partial(churn, 1), read, read], cwd=union.merged)
    assert union.names() == sorted(STEADY)
