from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fake_filesystem import FIRST_INO, FakeFilesystem
from tests.pyfuse3_transport.served import TIMEOUT, Served, as_user, serve
from unionfs.filesystem import Caller, DirRow, Entry
from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2


@pytest.fixture
def served(mountpoint: Path, filesystem: FakeFilesystem) -> Iterator[Served]:
    with serve(mountpoint, filesystem) as served:
        yield served


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_inode_numbers_are_those_of_the_filesystem(served: Served, filesystem: FakeFilesystem) -> None:
    inode = filesystem.make(b"file", stat.S_IFREG | 0o644)
    assert (served.mountpoint / "file").stat().st_ino == inode.ino
    assert served.mountpoint.stat().st_ino == FIRST_INO


def test_listing_tells_the_same_number_and_type_as_stat(served: Served, filesystem: FakeFilesystem) -> None:
    filesystem.make(b"file", stat.S_IFREG | 0o644)
    filesystem.make(b"dir", stat.S_IFDIR | 0o755)
    filesystem.make(b"link", stat.S_IFLNK | 0o777, b"file")
    with os.scandir(served.mountpoint) as rows:
        listed = {row.name: (row.inode(), row.is_file(follow_symlinks=False), row.is_symlink()) for row in rows}
    found = {name: (served.mountpoint / name).lstat() for name in listed}
    assert listed == {name: (st.st_ino, stat.S_ISREG(st.st_mode), stat.S_ISLNK(st.st_mode)) for name, st in found.items()}
    assert set(listed) == {"file", "dir", "link"}


def test_two_nodes_of_one_inode_number_stay_apart(served: Served, filesystem: FakeFilesystem) -> None:
    for name in (b"a", b"b"):
        filesystem.make(name, stat.S_IFREG | 0o644, name).ino = 900
    assert [(served.mountpoint / name).read_bytes() for name in ("a", "b")] == [b"a", b"b"]
    numbers = {(served.mountpoint / name).stat().st_ino for name in ("a", "b")}
    assert len(numbers) == 2
    assert 900 in numbers


def test_missing_name_is_asked_for_once(served: Served) -> None:
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            (served.mountpoint / "none").stat()
    assert served.session.counters["lookup"] == 1


def test_attributes_are_asked_for_once_unless_stale(served: Served, filesystem: FakeFilesystem) -> None:
    kept = filesystem.make(b"kept", stat.S_IFREG | 0o644)
    stale = filesystem.make(b"stale", stat.S_IFREG | 0o644)
    filesystem.stale.add(stale.node)
    for inode, name, expected in ((kept, "kept", 1), (stale, "stale", 2)):
        assert (served.mountpoint / name).stat().st_mtime_ns == inode.mtime_ns
        inode.mtime_ns = expected
        assert ((served.mountpoint / name).stat().st_mtime_ns == expected) == (inode is stale)


def test_every_name_of_a_large_directory_is_listed_once(served: Served, filesystem: FakeFilesystem) -> None:
    names = {f"{number:05}{'x' * 150}" for number in range(2000)}
    for name in names:
        filesystem.make(name.encode(), stat.S_IFREG | 0o644)
    listed = os.listdir(served.mountpoint)
    assert len(listed) == len(names)
    assert set(listed) == names
    assert filesystem.calls["unread"], "no reply was too small for a row"


def test_every_lookup_is_taken_back_when_the_names_are_gone(served: Served, filesystem: FakeFilesystem) -> None:
    for number in range(300):
        filesystem.make(b"%03d" % number + b"x" * 200, stat.S_IFREG | 0o644)
    (served.mountpoint / "made").write_text("content")
    (served.mountpoint / "linked").hardlink_to(served.mountpoint / "made")
    (served.mountpoint / "symlink").symlink_to("made")
    for name in os.listdir(served.mountpoint):
        (served.mountpoint / name).unlink()
    wait_for(lambda: filesystem.lookups() == {})


def test_row_without_counted_lookup_is_listed_with_its_number(mountpoint: Path) -> None:
    class Uncounted(FakeFilesystem):
        def readdirplus(self, node: int, offset: int) -> Iterator[DirRow]:
            for row in self.readdir(node, offset):
                child = self.nodes[node].names.get(row.name)
                yield row if child is None else row._replace(entry=Entry(0, self.getattr(child)))

    filesystem = Uncounted()
    inode = filesystem.make(b"file", stat.S_IFREG | 0o644, b"content")
    with serve(mountpoint, filesystem) as served:
        with os.scandir(served.mountpoint) as rows:
            assert [(row.name, row.inode()) for row in rows] == [("file", inode.ino)]
        (served.mountpoint / "file").unlink()
        wait_for(lambda: filesystem.lookups() == {})


def test_listing_that_fails_half_way_goes_on_at_the_row_that_failed(mountpoint: Path) -> None:
    class FailsOnce(FakeFilesystem):
        failed_at: list[int]

        def readdirplus(self, node: int, offset: int) -> Iterator[DirRow]:
            for row in super().readdirplus(node, offset):
                if row.offset == 5 and not self.failed_at:
                    self.failed_at.append(offset)
                    self.nlookup[row.entry.node] -= 1  # type: ignore[union-attr] -- a file's row has an entry
                    raise OSError(errno.EIO, "once")
                yield row

    filesystem = FailsOnce()
    filesystem.failed_at = []
    for name in (b"a", b"b", b"c", b"d"):
        filesystem.make(name, stat.S_IFREG | 0o644)
    with serve(mountpoint, filesystem) as served:
        assert sorted(os.listdir(served.mountpoint)) == ["a", "b", "c", "d"]
    assert filesystem.failed_at == [0]


def test_names_may_hold_any_byte(served: Served, filesystem: FakeFilesystem) -> None:
    name = bytes(range(1, 256)).replace(b"/", b"")[:200]
    os.close(os.open(os.fsencode(served.mountpoint) + b"/" + name, os.O_CREAT | os.O_WRONLY, 0o600))
    assert list(filesystem.root.names) == [name]
    assert os.listdir(os.fsencode(served.mountpoint)) == [name]


def test_rename_flags_reach_the_filesystem(served: Served, filesystem: FakeFilesystem) -> None:
    a, b = filesystem.make(b"a", stat.S_IFREG | 0o644), filesystem.make(b"b", stat.S_IFREG | 0o644)
    directory = os.open(served.mountpoint, os.O_PATH)
    try:
        with pytest.raises(FileExistsError):
            renameat2(directory, b"a", directory, b"b", RENAME_NOREPLACE)
        renameat2(directory, b"a", directory, b"b", RENAME_EXCHANGE)
        assert filesystem.root.names == {b"a": b.node, b"b": a.node}
        renameat2(directory, b"a", directory, b"b", 0)
        assert filesystem.root.names == {b"b": b.node}
    finally:
        os.close(directory)


def test_device_has_its_number_and_type(served: Served) -> None:
    device = os.makedev(259, 70000)
    os.mknod(served.mountpoint / "device", stat.S_IFBLK | 0o600, device)
    found = (served.mountpoint / "device").stat()
    assert (found.st_rdev, stat.S_IFMT(found.st_mode)) == (device, stat.S_IFBLK)


def test_made_object_belongs_to_its_maker(served: Served, filesystem: FakeFilesystem) -> None:
    filesystem.root.mode = stat.S_IFDIR | 0o777
    as_user(1234, "os.mkdir('dir')", served.mountpoint)
    made = filesystem.child(b"dir")
    assert (made.uid, made.gid) == (1234, 1234)


def test_symbolic_link_has_its_target(served: Served) -> None:
    (served.mountpoint / "link").symlink_to("some/where")
    assert os.readlink(served.mountpoint / "link") == "some/where"


def test_missing_victims_are_enoent_and_full_directory_is_enotempty(served: Served, filesystem: FakeFilesystem) -> None:
    filesystem.make(b"dir", stat.S_IFDIR | 0o755)
    filesystem.make(b"dir/file", stat.S_IFREG | 0o644)
    with pytest.raises(FileNotFoundError):
        (served.mountpoint / "none").unlink()
    with pytest.raises(OSError, match="not empty"):
        (served.mountpoint / "dir").rmdir()
    (served.mountpoint / "dir" / "file").unlink()
    (served.mountpoint / "dir").rmdir()
    assert os.listdir(served.mountpoint) == []


class RecordsModes(FakeFilesystem):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        self.asked.append((stat.S_IMODE(mode), caller.umask))
        return super().mkdir(parent, name, mode, caller)


def test_umask_is_left_to_the_filesystem_and_applied_once(mountpoint: Path) -> None:
    filesystem = RecordsModes()
    with serve(mountpoint, filesystem) as served:
        script = 'umask 027; mkdir "$1/dir"; : >"$1/file"; mkfifo "$1/fifo"'
        subprocess.run(["sh", "-c", script, "sh", served.mountpoint], check=True, timeout=TIMEOUT)
        assert filesystem.asked == [(0o777, 0o027)]
        modes = {name: stat.S_IMODE((served.mountpoint / name).stat().st_mode) for name in ("dir", "file", "fifo")}
    assert modes == {"dir": 0o750, "file": 0o640, "fifo": 0o640}
