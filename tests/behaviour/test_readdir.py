"""Directory streams: complete, without duplicates, with offsets that stay good while names come and go."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from .layers import FIFO, SOCKET, WHITEOUT, Dir, Special, Symlink, Tree
from .syscalls import Dirent, all_dents, fails_with, getdents, opened
from .union import Union

layers = pytest.mark.layers

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
SMALL = 280
"""Bytes of a buffer that holds one row with a name of 255 bytes: the rows come in many calls."""


def read_all(path: Path, room: int = 4096) -> list[Dirent]:
    with opened(path, DIRECTORY) as fd:
        return all_dents(fd, room)


def names_of(rows: list[Dirent]) -> list[bytes]:
    return [row.name for row in rows]


KINDS: Tree = {
    "file": b"",
    "dir": Dir(),
    "link": Symlink("x"),
    "fifo": FIFO,
    "socket": SOCKET,
    "char": Special(stat.S_IFCHR, os.makedev(1, 3)),
    "block": Special(stat.S_IFBLK, os.makedev(7, 9)),
}

stacks = pytest.mark.parametrize(
    "stack",
    [
        pytest.param("lower only", marks=layers(KINDS)),
        pytest.param("upper only", marks=layers(upper=KINDS)),
        pytest.param("merged", marks=layers([KINDS, {"more": b"", "dir": Dir()}], upper={"upper": b"", "fifo": WHITEOUT})),
    ],
)


@stacks
def test_kind_and_ino_of_rows_are_those_of_stat(union: Union, stack: str) -> None:
    for row in read_all(union.merged):
        path = os.path.join(os.fsencode(union.merged), row.name)
        status = os.lstat(path)
        assert row.kind << 12 == stat.S_IFMT(status.st_mode), (stack, row.name)
        assert row.ino == status.st_ino, (stack, row.name)


@stacks
def test_dot_and_dot_dot_come_once(union: Union, stack: str) -> None:
    names = names_of(read_all(union.merged))
    assert (names.count(b"."), names.count(b"..")) == (1, 1), stack
    assert len(names) == len(set(names))


@layers([{"d/a": b"", "d/b": b""}, {"d/b": b"", "d/c": b""}, {"d/c": b"", "d/d": b""}], upper={"d/a": WHITEOUT, "d/e": b""})
def test_each_name_of_several_layers_comes_once(union: Union) -> None:
    assert sorted(names_of(read_all(union.merged / "d", SMALL))) == [b".", b"..", b"b", b"c", b"d", b"e"]


@layers({"f": b"", "d/g": b""})
def test_ino_of_rows_stays_that_of_stat_after_copy_up(union: Union) -> None:
    os.chmod(union.merged / "f", 0o600)
    os.chmod(union.merged / "d", 0o700)
    for row in read_all(union.merged):
        if row.name in (b"f", b"d"):
            assert row.ino == (union.merged / os.fsdecode(row.name)).stat().st_ino


MANY = [f"name-{number:05}" for number in range(600)]
EVERY = {b".", b"..", *map(str.encode, MANY)}


@layers([{f"d/{name}": b"" for name in MANY[:400]}, {f"d/{name}": b"" for name in MANY[200:]}])
class TestMergedDirectoryReadInPieces:
    def test_is_listed_completely(self, union: Union) -> None:
        rows = read_all(union.merged / "d", SMALL)
        assert len(rows) == len(EVERY)
        assert set(names_of(rows)) == EVERY

    def test_names_removed_while_reading_hide_no_other(self, union: Union) -> None:
        with opened(union.merged / "d", DIRECTORY) as fd:
            seen = names_of(getdents(fd, 1024))
            removed = set()
            while rows := getdents(fd, 1024):
                seen += names_of(rows)
                for row in rows[::10]:
                    os.unlink(row.name, dir_fd=fd)
                    removed.add(row.name)
        assert len(seen) == len(set(seen))
        assert set(seen) == EVERY
        assert set(names_of(read_all(union.merged / "d"))) == EVERY - removed

    def test_names_made_while_reading_repeat_no_other(self, union: Union) -> None:
        with opened(union.merged / "d", DIRECTORY) as fd:
            seen: list[bytes] = []
            made = 0
            while rows := getdents(fd, 1024):
                seen += names_of(rows)
                os.close(os.open(f"new-{made}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
                made += 1
        assert len(seen) == len(set(seen))
        assert set(seen) >= EVERY

    def test_can_be_emptied_in_one_pass(self, union: Union) -> None:
        with opened(union.merged / "d", DIRECTORY) as fd:
            while rows := getdents(fd, 1024):
                for row in rows:
                    if row.name not in (b".", b".."):
                        os.unlink(row.name, dir_fd=fd)
        (union.merged / "d").rmdir()
        assert union.names() == []

    def test_seek_to_an_offset_goes_on_behind_its_row(self, union: Union) -> None:
        with opened(union.merged / "d", DIRECTORY) as fd:
            rows = all_dents(fd)
            for index in (0, 1, 2, 100, 300, 599):
                os.lseek(fd, rows[index].offset, os.SEEK_SET)
                assert names_of(all_dents(fd)) == names_of(rows[index + 1 :])


FIFTY = {f"d/{number}": b"" for number in range(50)}


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("lower", marks=layers(FIFTY)),
        pytest.param("upper", marks=layers(upper=FIFTY)),
        pytest.param("merged", marks=layers(FIFTY, upper={"d/upper": b""})),
    ],
)
def test_offsets_stay_good_while_names_come_and_go(union: Union, where: str) -> None:
    with opened(union.merged / "d", DIRECTORY) as fd:
        rows = all_dents(fd, SMALL)
        kept = [row for row in rows if row.name not in (b".", b"..")]
        for row in kept[:20]:
            os.unlink(row.name, dir_fd=fd)
        os.close(os.open("added", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.lseek(fd, kept[24].offset, os.SEEK_SET)
        rest = [name for name in names_of(all_dents(fd, SMALL)) if name not in (b".", b"..", b"added")]
        assert rest == names_of(kept[25:]), where


@layers({"d/old": b"", "d/gone": b""})
def test_rewind_shows_what_has_changed(union: Union) -> None:
    with opened(union.merged / "d", DIRECTORY) as fd:
        assert sorted(names_of(all_dents(fd))) == [b".", b"..", b"gone", b"old"]
        (union.merged / "d/new").touch()
        (union.merged / "d/gone").unlink()
        os.lseek(fd, 0, os.SEEK_SET)
        assert sorted(names_of(all_dents(fd))) == [b".", b"..", b"new", b"old"]


@layers({"d/old": b""})
def test_every_change_shows_in_the_next_listing(union: Union) -> None:
    directory = union.merged / "d"
    assert union.names("d") == ["old"]
    (directory / "file").write_bytes(b"x")
    assert union.names("d") == ["file", "old"]
    (directory / "dir").mkdir()
    (directory / "old").unlink()
    assert union.names("d") == ["dir", "file"]
    (directory / "file").rename(directory / "moved")
    os.link(directory / "moved", directory / "linked")
    (directory / "link").symlink_to("x")
    assert union.names("d") == ["dir", "link", "linked", "moved"]
    (directory / "dir").rmdir()
    (directory / "dir").write_bytes(b"")
    kinds = {row.name: row.kind for row in read_all(directory)}
    assert kinds[b"dir"] == stat.S_IFREG >> 12


@layers({"d/f": b""})
def test_removed_directory_cannot_be_listed(union: Union) -> None:
    with opened(union.merged / "d", DIRECTORY) as fd:
        (union.merged / "d/f").unlink()
        (union.merged / "d").rmdir()
        with fails_with(errno.ENOENT):
            getdents(fd)


def test_directory_of_thousands_made_through_the_mount(union: Union) -> None:
    (union.merged / "d").mkdir()
    for number in range(4000):
        os.mknod(union.merged / f"d/{number}")
    rows = read_all(union.merged / "d", room=32768)
    assert len(rows) == 4002
    assert len(set(names_of(rows))) == 4002
