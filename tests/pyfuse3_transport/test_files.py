from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem, FakeNode
from tests.pyfuse3_transport.served import Served, as_user, serve

USER = 65534


@pytest.fixture
def served(mountpoint: Path, filesystem: FakeFilesystem) -> Iterator[Served]:
    with serve(mountpoint, filesystem) as served:
        yield served


def test_written_bytes_are_read_back(served: Served, filesystem: FakeFilesystem) -> None:
    content = os.urandom(3_000_000)
    (served.mountpoint / "file").write_bytes(content)
    assert filesystem.content(filesystem.child(b"file").node) == content
    assert (served.mountpoint / "file").read_bytes() == content


def test_append_goes_to_the_end(served: Served) -> None:
    path = served.mountpoint / "file"
    path.write_text("one")
    with path.open("a") as file:
        file.write(" two")
    assert path.read_text() == "one two"


def test_second_open_reads_from_the_page_cache(served: Served, filesystem: FakeFilesystem) -> None:
    filesystem.make(b"file", stat.S_IFREG | 0o644, b"content")
    for _ in range(3):
        assert (served.mountpoint / "file").read_bytes() == b"content"
    assert served.session.counters["read"] == 1


def test_truncating_open_leaves_nothing_in_the_cache(served: Served, filesystem: FakeFilesystem) -> None:
    filesystem.make(b"file", stat.S_IFREG | 0o644, b"long content")
    path = served.mountpoint / "file"
    assert path.read_bytes() == b"long content"
    path.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_open_file_without_a_name_can_be_used(served: Served) -> None:
    path = served.mountpoint / "file"
    with path.open("w+b", buffering=0) as file:
        path.unlink()
        file.write(b"content")
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.pread(file.fileno(), 100, 0) == b"content"


def test_times_have_nanoseconds_and_may_lie_before_the_epoch(served: Served, filesystem: FakeFilesystem) -> None:
    inode = filesystem.make(b"file", stat.S_IFREG | 0o644)
    os.utime(served.mountpoint / "file", ns=(1_234_567_890_123_456_789, -1_500_000_000))
    assert (inode.atime_ns, inode.mtime_ns) == (1_234_567_890_123_456_789, -1_500_000_000)
    found = (served.mountpoint / "file").stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_234_567_890_123_456_789, -1_500_000_000)


def test_touch_sets_the_time_of_the_call(served: Served, filesystem: FakeFilesystem) -> None:
    inode = filesystem.make(b"file", stat.S_IFREG | 0o644)
    inode.mtime_ns = 0
    before = filesystem.make(b"reference", stat.S_IFREG | 0o644).mtime_ns
    os.utime(served.mountpoint / "file")
    # A coarse clock of the kernel stamps the request, up to a tick late.
    assert inode.mtime_ns >= before - 100_000_000


def test_owner_mode_and_size_change_alone(served: Served, filesystem: FakeFilesystem) -> None:
    inode = filesystem.make(b"file", stat.S_IFREG | 0o644, b"content")
    path = served.mountpoint / "file"
    os.chown(path, 7, -1)
    assert (inode.uid, inode.gid) == (7, 0)
    os.chown(path, -1, 8)
    assert (inode.uid, inode.gid) == (7, 8)
    path.chmod(0o4711)
    assert inode.mode == stat.S_IFREG | 0o4711
    os.truncate(path, 3)
    assert (filesystem.content(inode.node), inode.uid, inode.gid) == (b"con", 7, 8)


def test_fsync_reaches_files_and_directories(served: Served, filesystem: FakeFilesystem) -> None:
    inode = filesystem.make(b"file", stat.S_IFREG | 0o644)
    synced: list[tuple[int, bool]] = []
    filesystem.hooks["fsync"] = lambda node, datasync: synced.append((node, datasync))
    for path, sync in (
        (served.mountpoint / "file", os.fsync),
        (served.mountpoint / "file", os.fdatasync),
        (served.mountpoint, os.fsync),
    ):
        fd = os.open(path, os.O_RDONLY)
        sync(fd)
        os.close(fd)
    assert synced == [(inode.node, False), (inode.node, True), (1, False)]


def test_statfs_tells_the_figures_of_the_filesystem(served: Served, filesystem: FakeFilesystem) -> None:
    found, expected = os.statvfs(served.mountpoint), filesystem.statfs()
    assert (found.f_blocks, found.f_bfree, found.f_bavail) == (expected.blocks, expected.bfree, expected.bavail)
    assert (found.f_files, found.f_ffree, found.f_namemax) == (expected.files, expected.ffree, expected.namelen)
    assert (found.f_bsize, found.f_frsize) == (expected.bsize, expected.frsize)


# -- extended attributes ------------------------------------------------------------------------------------------------


def test_xattrs_are_set_listed_and_removed(served: Served, filesystem: FakeFilesystem) -> None:
    inode = filesystem.make(b"file", stat.S_IFREG | 0o644)
    path = served.mountpoint / "file"
    assert os.listxattr(path) == []
    os.setxattr(path, "user.a", b"\0value\xff")
    os.setxattr(path, "trusted.b", b"")
    assert inode.xattrs == {b"user.a": b"\0value\xff", b"trusted.b": b""}
    assert os.listxattr(path) == ["user.a", "trusted.b"]
    assert os.getxattr(path, "user.a") == b"\0value\xff"
    os.removexattr(path, "user.a")
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(path, "user.a")


def test_trusted_xattrs_are_listed_for_root_only(served: Served, filesystem: FakeFilesystem) -> None:
    filesystem.make(b"file", stat.S_IFREG | 0o644).xattrs = {b"trusted.a": b"", b"user.b": b""}
    assert os.listxattr(served.mountpoint / "file") == ["trusted.a", "user.b"]
    as_user(USER, "assert os.listxattr('file') == ['user.b']", served.mountpoint)


def test_xattr_create_and_replace_are_kept_to(served: Served, filesystem: FakeFilesystem) -> None:
    filesystem.make(b"file", stat.S_IFREG | 0o644)
    path = served.mountpoint / "file"
    with pytest.raises(OSError, match="No data available"):
        os.setxattr(path, "user.a", b"x", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"x", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.a", b"y", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"z", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.a") == b"z"


# -- set-id bits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def set_id_file(filesystem: FakeFilesystem) -> FakeNode:
    return filesystem.make(b"file", stat.S_IFREG | 0o6777, b"content")


@pytest.mark.parametrize(
    "program",
    [
        "os.write(os.open('file', os.O_WRONLY), b'x')",
        "os.truncate('file', 3)",
        "os.open('file', os.O_WRONLY | os.O_TRUNC)",
    ],
    ids=["write", "truncate", "open with O_TRUNC"],
)
def test_set_id_bits_go_when_a_user_changes_the_file_and_stay_when_root_does(
    served: Served, set_id_file: FakeNode, program: str
) -> None:
    as_user(0, program, served.mountpoint)
    assert set_id_file.mode == stat.S_IFREG | 0o6777
    as_user(USER, program, served.mountpoint)
    assert set_id_file.mode == stat.S_IFREG | 0o777
    assert stat.S_IMODE((served.mountpoint / "file").stat().st_mode) == 0o777


def test_chown_drops_the_set_id_bits_of_a_file(served: Served, set_id_file: FakeNode) -> None:
    os.chown(served.mountpoint / "file", 5, 6)
    assert set_id_file.mode == stat.S_IFREG | 0o777


def test_chown_leaves_the_set_id_bits_of_a_directory(served: Served, filesystem: FakeFilesystem) -> None:
    directory = filesystem.make(b"dir", stat.S_IFDIR | 0o2775)
    os.chown(served.mountpoint / "dir", 5, 6)
    assert (directory.mode, directory.uid) == (stat.S_IFDIR | 0o2775, 5)
