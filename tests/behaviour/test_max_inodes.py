"""``max_inodes``: how many inodes the daemon knows stays in bounds, and nobody who uses one is harmed."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.mounts import OURS, Backend, run_unionfs

from .process import in_child
from .syscalls import opened
from .union import Union

DEADLINE = 20.0
"""Seconds until the kernel's FORGETs must have come."""

DIRECTORIES, FILES, BOUND = 10, 50, 100
SLACK = 2 * 64
"""How many more there may be: if the kernel could not forget what it was asked to, the next go is due after some growth."""

TREE = {f"d{i}/f{j}": b"%d-%d" % (i, j) for i in range(DIRECTORIES) for j in range(FILES)}

pytestmark = [pytest.mark.layers(TREE), pytest.mark.mount_options(f"max_inodes={BOUND}", "index=on")]


@pytest.fixture(scope="module", params=OURS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Ours alone: the kernel's OverlayFS has no such option."""
    return request.param


def walk(union: Union) -> dict[str, int]:
    """Inode numbers of all files, after a walk that has looked at each."""
    return {
        os.path.relpath(path, union.merged): os.lstat(path).st_ino
        for directory, _, names in os.walk(union.merged)
        for path in (os.path.join(directory, name) for name in names)
    }


def status(union: Union) -> dict[str, dict[str, int]]:
    answer: dict[str, dict[str, int]] = json.loads(run_unionfs(["status", "--json", union.merged]))
    return answer


def known(union: Union) -> int:
    return status(union)["union"]["inodes"]


def wait_until_known(union: Union, most: int) -> None:
    """Until the daemon knows no more inodes than ``most``."""
    deadline = time.monotonic() + DEADLINE
    while (count := known(union)) > most:
        assert time.monotonic() < deadline, f"{count} inodes are known, {most} expected"


def walk_until_known(union: Union, most: int) -> dict[str, int]:
    """The same, with new walks, so that what could not be forgotten at one moment is asked for again."""
    deadline = time.monotonic() + DEADLINE
    numbers = walk(union)
    while (count := known(union)) > most:
        assert time.monotonic() < deadline, f"{count} inodes are known, {most} expected"
        assert walk(union) == numbers
    return numbers


def test_walk_ends_with_no_more_inodes_than_the_bound(own_union: Union) -> None:
    first = walk(own_union)
    assert len(first) == DIRECTORIES * FILES
    wait_until_known(own_union, BOUND + SLACK)
    assert walk(own_union) == first
    wait_until_known(own_union, BOUND + SLACK)
    answer = status(own_union)
    assert answer["union"]["inodes_limit"] == BOUND
    assert answer["requests"]["asked_to_forget"] >= len(first) - BOUND


def test_what_was_forgotten_is_found_again_as_it_was_left(own_union: Union) -> None:
    merged = own_union.merged
    numbers = walk(own_union)
    for i in range(DIRECTORIES):
        (merged / f"d{i}/f0").write_bytes(b"written" * 1000)
        (merged / f"d{i}/f1").chmod(0o600)
        (merged / f"d{i}/f2").unlink()
        (merged / f"d{i}/f3").rename(merged / f"d{i}/moved")
        os.link(merged / f"d{i}/f4", merged / f"d{i}/linked")
        (merged / f"d{i}/made").mkdir()
        (merged / f"d{i}/made/f").write_bytes(b"new")
    after = walk_until_known(own_union, BOUND + SLACK)
    for i in range(DIRECTORIES):
        assert (merged / f"d{i}/f0").read_bytes() == b"written" * 1000
        assert (merged / f"d{i}/f1").stat().st_mode & 0o777 == 0o600
        assert not (merged / f"d{i}/f2").exists()
        assert (merged / f"d{i}/moved").read_bytes() == b"%d-3" % i
        assert (merged / f"d{i}/linked").stat().st_nlink == 2
        assert (merged / f"d{i}/made/f").read_bytes() == b"new"
        for name, before in (("f0", "f0"), ("f1", "f1"), ("moved", "f3"), ("linked", "f4")):
            assert after[f"d{i}/{name}"] == numbers[f"d{i}/{before}"]
    assert walk(own_union) == after


def test_open_files_go_on_when_all_else_is_forgotten(own_union: Union) -> None:
    merged = own_union.merged
    with ExitStack() as stack:
        readers = [stack.enter_context(opened(merged / f"d{i}/f5", os.O_RDONLY)) for i in range(DIRECTORIES)]
        writers = [stack.enter_context(opened(merged / f"d{i}/f6", os.O_RDWR)) for i in range(DIRECTORIES)]
        removed = stack.enter_context(opened(merged / "d0/f7", os.O_RDONLY))
        (merged / "d0/f7").unlink()
        numbers = walk_until_known(own_union, BOUND + SLACK)
        for i, (reader, writer) in enumerate(zip(readers, writers, strict=True)):
            assert os.read(reader, 100) == b"%d-5" % i
            assert os.fstat(reader).st_ino == numbers[f"d{i}/f5"]
            os.write(writer, b"new")
            assert (merged / f"d{i}/f6").read_bytes() == b"new"
        assert os.read(removed, 100) == b"0-7"


def test_more_open_files_than_the_bound_are_all_kept(own_union: Union) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(opened(own_union.merged / path, os.O_RDONLY)) for path in list(TREE)[: BOUND * 2]]
        walk_until_known(own_union, BOUND * 3 + SLACK)
        assert [os.read(fd, 100) for fd in files] == list(TREE.values())[: BOUND * 2]
    walk_until_known(own_union, BOUND + SLACK)


def test_current_directory_stays_where_it_is(own_union: Union) -> None:
    merged = own_union.merged

    def child() -> tuple[str, list[str], bytes]:
        walk(own_union)
        Path("made").write_bytes(b"x")
        return os.getcwd(), sorted(os.listdir(".")), Path("f8").read_bytes()

    directory, names, data = in_child(child, cwd=merged / "d3")
    assert directory == str(merged / "d3")
    assert names == sorted([*(f"f{j}" for j in range(FILES)), "made"])
    assert data == b"3-8"


@contextmanager
def bind_mount(source: Path, target: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def test_mounts_inside_the_union_stay(own_union: Union, tmp_path: Path) -> None:
    merged = own_union.merged
    (tmp_path / "other").mkdir()
    (tmp_path / "other/inner").write_bytes(b"inner")
    (tmp_path / "file").write_bytes(b"other file")
    with bind_mount(tmp_path / "other", merged / "d4"), bind_mount(tmp_path / "file", merged / "d5/f9"):
        walk_until_known(own_union, BOUND + SLACK)
        assert (merged / "d4/inner").read_bytes() == b"inner"
        assert (merged / "d5/f9").read_bytes() == b"other file"
    assert (merged / "d5/f9").read_bytes() == b"5-9"


_libc = ctypes.CDLL(None, use_errno=True)
IN_MODIFY, IN_CREATE = 0x2, 0x100


def test_watches_go_on(own_union: Union) -> None:
    merged = own_union.merged
    inotify = _libc.inotify_init1(os.O_NONBLOCK)
    for path, mask in ((merged / "d6", IN_CREATE), (merged / "d7/f10", IN_MODIFY)):
        assert _libc.inotify_add_watch(inotify, os.fsencode(path), mask) >= 0
    walk_until_known(own_union, BOUND + SLACK)
    (merged / "d6/made").write_bytes(b"x")
    (merged / "d7/f10").write_bytes(b"x")
    events = os.read(inotify, 4096)
    os.close(inotify)
    found = []
    while events:
        watch, mask, _, length = (int.from_bytes(events[at : at + 4], "little") for at in (0, 4, 8, 12))
        found.append((watch, mask, events[16 : 16 + length].rstrip(b"\0")))
        events = events[16 + length :]
    assert (1, IN_CREATE, b"made") in found
    assert (2, IN_MODIFY, b"") in found
