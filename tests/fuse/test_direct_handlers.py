"""Requests on literal bytes against a fake filesystem, without a mount."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem
from unionfs.filesystem import ROOT_ID, SET_ATIME, SET_KILL_SUIDGID, SET_MTIME, Caller, Changes
from unionfs.fuse import wire
from unionfs.fuse.direct_handlers import DirectHandlers
from unionfs.fuse.protocol import InitFlag, Opcode
from unionfs.fuse.session import SessionSettings
from unionfs.fuse.wire import RequestHeader


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[FakeFilesystem]:
    fake = FakeFilesystem(tmp_path)
    yield fake
    fake.close()


class Kernel:
    """Sends bodies to the handlers of the cached data path."""

    def __init__(self, filesystem: FakeFilesystem, flags: InitFlag = InitFlag.SETXATTR_EXT) -> None:
        self.invalidated: list[int] = []
        self.handlers = DirectHandlers(filesystem, SessionSettings(), flags, None, self.invalidated.append)

    def send(self, opcode: Opcode, node: int, body: bytes) -> bytes:
        header: RequestHeader = (40 + len(body), opcode, 1, node, 1000, 1001, 4321, 0)
        operation = self.handlers.operations[opcode]
        view = memoryview(body)
        return operation.finish(header, view, operation.call(header, view))

    def take_back(self, opcode: Opcode, node: int, payload: bytes) -> None:
        self.handlers.take_back((40, opcode, 1, node, 0, 0, 0, 0), payload)


def u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little", signed=value < 0) for value in values)


def recorded(filesystem: FakeFilesystem, method: str) -> list[tuple[object, ...]]:
    """The arguments of each call of ``method`` from now on."""
    calls: list[tuple[object, ...]] = []
    filesystem.hooks[method] = lambda *arguments: calls.append(arguments)
    return calls


def test_lookup_of_missing_name_is_a_negative_entry(filesystem: FakeFilesystem) -> None:
    reply = Kernel(filesystem).send(Opcode.LOOKUP, ROOT_ID, b"missing\0")
    assert reply == wire.encode_no_entry(wire.validity(SessionSettings().negative_timeout))


def test_stale_node_has_attributes_that_are_never_valid(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f")
    filesystem.stale.add(node)
    reply = Kernel(filesystem).send(Opcode.GETATTR, node, bytes(16))
    assert reply == wire.encode_attr(filesystem.getattr(node), wire.validity(0))


def test_setattr_combines_seconds_and_nanoseconds(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f")
    calls = recorded(filesystem, "setattr")
    body = u32(SET_ATIME | SET_MTIME, 0) + u64(0, 0, 0, -1, 2, 0) + u32(250_000_000, 5, 0, 0, 0, 0, 0, 0)
    Kernel(filesystem).send(Opcode.SETATTR, node, body)
    changes = Changes(SET_ATIME | SET_MTIME, atime_ns=-750_000_000, mtime_ns=2_000_000_005)
    assert calls == [(node, changes, Caller(1000, 1001, 4321, 0))]


def test_setattr_of_nothing_drops_the_set_id_bits(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f")
    calls = recorded(filesystem, "setattr")
    Kernel(filesystem).send(Opcode.SETATTR, node, bytes(88))
    assert calls == [(node, Changes(SET_KILL_SUIDGID), Caller(1000, 1001, 4321, 0))]


def test_makers_pass_mode_device_and_umask_on(filesystem: FakeFilesystem) -> None:
    caller = Caller(1000, 1001, 4321, 0o27)
    mknod, mkdir, create = (recorded(filesystem, name) for name in ("mknod", "mkdir", "create"))
    kernel = Kernel(filesystem)
    kernel.send(Opcode.MKNOD, ROOT_ID, u32(stat.S_IFCHR | 0o666, 0x103, 0o27, 0) + b"null\0")
    kernel.send(Opcode.MKDIR, ROOT_ID, u32(0o777, 0o27) + b"d\0")
    kernel.send(Opcode.CREATE, ROOT_ID, u32(0o1101, stat.S_IFREG | 0o666, 0o27, 0) + b"f\0")
    assert mknod == [(ROOT_ID, b"null", stat.S_IFCHR | 0o666, 0x103, caller)]
    assert mkdir == [(ROOT_ID, b"d", 0o777, caller)]
    assert create == [(ROOT_ID, b"f", 0o1101, stat.S_IFREG | 0o666, caller)]


def test_symlink_may_point_anywhere(filesystem: FakeFilesystem) -> None:
    kernel = Kernel(filesystem)
    kernel.send(Opcode.SYMLINK, ROOT_ID, b"name\0../x y/\xff\0")
    node = filesystem.nodes[ROOT_ID].names[b"name"]
    assert kernel.send(Opcode.READLINK, node, b"") == b"../x y/\xff"


def test_both_renames_reach_the_filesystem(filesystem: FakeFilesystem) -> None:
    directory = filesystem.add(b"d", None)
    filesystem.add(b"a")
    calls = recorded(filesystem, "rename")
    kernel = Kernel(filesystem)
    kernel.send(Opcode.RENAME, ROOT_ID, u64(directory) + b"a\0b\0")
    kernel.send(Opcode.RENAME2, directory, u64(ROOT_ID) + u32(1, 0) + b"b\0c\0")
    assert calls == [(ROOT_ID, b"a", directory, b"b", 0), (directory, b"b", ROOT_ID, b"c", 1)]


def test_link_gives_the_node_of_the_body_a_name_in_the_node_of_the_header(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"a")
    calls = recorded(filesystem, "link")
    Kernel(filesystem).send(Opcode.LINK, ROOT_ID, u64(node) + b"b\0")
    assert calls == [(node, ROOT_ID, b"b")]


def test_write_passes_kill_suidgid_on(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f", mode=0o4755)
    write = u64(0, 0) + u32(3, 4) + u64(0) + u32(0, 0) + b"abc"
    assert Kernel(filesystem).send(Opcode.WRITE, node, write) == u32(3, 0)
    assert filesystem.nodes[node].mode == stat.S_IFREG | 0o755
    assert filesystem.content(node) == b"abc"


def test_write_back_keeps_the_time_that_the_kernel_owns(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f")
    filesystem.nodes[node].mtime_ns = before = -1_500_000_000

    def touch(*_: object) -> None:
        filesystem.nodes[node].mtime_ns = 2_000_000_000

    filesystem.hooks["write"] = touch
    kernel = Kernel(filesystem)
    kernel.send(Opcode.WRITE, node, u64(0, 0) + u32(3, 1) + u64(0) + u32(0, 0) + b"abc")
    assert filesystem.nodes[node].mtime_ns == before
    kernel.send(Opcode.WRITE, node, u64(0, 0) + u32(3, 0) + u64(0) + u32(0, 0) + b"abc")
    assert filesystem.nodes[node].mtime_ns == 2_000_000_000
    assert filesystem.content(node) == b"abc"


def write_in(data: bytes, flags: int) -> bytes:
    """The body of a WRITE at the start of a file."""
    return u64(0, 0) + u32(len(data), flags) + u64(0) + u32(0, 0) + data


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_lost_write_back_is_told_once_to_who_has_the_file_open(filesystem: FakeFilesystem) -> None:
    node, kernel = filesystem.add(b"f"), Kernel(filesystem)
    filesystem.hooks["write"] = full
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            kernel.send(Opcode.WRITE, node, write_in(b"abc", 1))
        # The kernel asks at the next write(2).
        assert kernel.invalidated.pop() == node
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            kernel.send(Opcode.GETATTR, node, u32(1, 0, 0, 0))
        assert kernel.send(Opcode.GETATTR, node, u32(1, 0, 0, 0))


def test_lost_write_back_is_nothing_to_who_only_looks_at_the_file(filesystem: FakeFilesystem) -> None:
    node, kernel = filesystem.add(b"f"), Kernel(filesystem)
    filesystem.hooks["write"] = full
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        kernel.send(Opcode.WRITE, node, write_in(b"abc", 1))
    assert kernel.send(Opcode.GETATTR, ROOT_ID, u32(1, 0, 0, 0))
    for flags in (0, 1):
        assert kernel.send(Opcode.GETATTR, node, u32(flags, 0, 0, 0))


def test_write_back_goes_on_after_a_short_write_and_tells_why_it_was_short(
    filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, kernel = filesystem.add(b"f"), Kernel(filesystem)
    write = filesystem.write

    def short(node: int, offset: int, data: memoryview, kill_suidgid: bool = False) -> int:
        if offset == 2:
            full()
        return write(node, offset, data[:1], kill_suidgid)

    monkeypatch.setattr(filesystem, "write", short)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        kernel.send(Opcode.WRITE, node, write_in(b"abc", 1))
    assert kernel.send(Opcode.WRITE, node, write_in(b"xy", 1)) == u32(2, 0)
    assert filesystem.content(node) == b"xy"
    # A program is told how many bytes they were, and finds out by itself.
    assert kernel.send(Opcode.WRITE, node, write_in(b"ABC", 0)) == u32(1, 0)


def test_create_of_an_existing_name_with_truncation_drops_the_set_id_bits_in_its_reply(filesystem: FakeFilesystem) -> None:
    kernel = Kernel(filesystem)
    reply = kernel.send(Opcode.CREATE, ROOT_ID, u32(0o1101, stat.S_IFREG | 0o6755, 0, 1) + b"f\0")
    node = filesystem.nodes[ROOT_ID].names[b"f"]
    assert filesystem.nodes[node].mode == stat.S_IFREG | 0o755
    assert reply[: wire.ENTRY_OUT.size][-28:-24] == u32(stat.S_IFREG | 0o755)


def test_create_that_fails_after_its_lookup_gives_the_lookup_back(filesystem: FakeFilesystem) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "no")

    filesystem.hooks["setattr"] = refuse
    with pytest.raises(OSError, match="no"):
        Kernel(filesystem).send(Opcode.CREATE, ROOT_ID, u32(0o1101, stat.S_IFREG | 0o6755, 0, 1) + b"f\0")
    assert filesystem.nlookup.total() == 0


def test_fallocate_and_lseek_and_fsync_decode_their_numbers(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f", b"12345678")
    fallocate, lseek, fsync = (recorded(filesystem, name) for name in ("fallocate", "lseek", "fsync"))
    kernel = Kernel(filesystem)
    kernel.send(Opcode.FALLOCATE, node, u64(0, 4, 8) + u32(0, 0))
    kernel.send(Opcode.FSYNC, node, u64(0) + u32(1, 0))
    kernel.send(Opcode.FSYNCDIR, ROOT_ID, u64(0) + u32(0, 0))
    assert kernel.send(Opcode.LSEEK, node, u64(0, 3) + u32(4, 0)) == u64(12)
    assert fallocate == [(node, 4, 8, 0)]
    assert lseek == [(node, 3, 4)]
    assert fsync == [(node, True), (ROOT_ID, False)]


def test_tmpfile_makes_a_file_without_a_name_in_the_directory_of_the_header(filesystem: FakeFilesystem) -> None:
    calls = recorded(filesystem, "tmpfile")
    kernel = Kernel(filesystem)
    # O_TMPFILE|O_RDWR, and the name that vfs_tmpfile() gives: a slash.
    reply = kernel.send(Opcode.TMPFILE, ROOT_ID, u32(0o20200002, stat.S_IFREG | 0o666, 0o27, 0) + b"/\0")
    assert calls == [(ROOT_ID, stat.S_IFREG | 0o666, Caller(1000, 1001, 4321, 0o27))]
    assert len(reply) == 128 + 16
    assert reply[-28 - 16 : -16] == u32(stat.S_IFREG | 0o640, 0, 1000, 1001, 0, 4096, 0)
    (node,) = wire.NODE_ID.unpack_from(reply)
    assert filesystem.nlookup[node] == 1
    kernel.take_back(Opcode.TMPFILE, ROOT_ID, reply)
    assert filesystem.nlookup[node] == 0


def test_copy_file_range_has_two_forms_of_reply(filesystem: FakeFilesystem) -> None:
    source, target = filesystem.add(b"source", b"0123456789"), filesystem.add(b"target", b"....")
    calls = recorded(filesystem, "copy_file_range")
    kernel = Kernel(filesystem)
    body = u64(77, 2, target, 88, 4, 1 << 40, 0)
    assert kernel.send(Opcode.COPY_FILE_RANGE, source, body) == u32(8, 0)
    assert kernel.send(Opcode.COPY_FILE_RANGE_64, source, body) == u64(8)
    assert calls == [(source, 2, target, 4, 0xFFFFF000), (source, 2, target, 4, 1 << 40)]
    assert filesystem.content(target) == b"....23456789"


@pytest.mark.parametrize(
    ("birth_ns", "mask", "seconds"), [(None, 0x7FF, u64(0) + u32(0)), (-1, 0xFFF, u64(-1) + u32(999_999_999))]
)
def test_statx_tells_the_time_of_birth(filesystem: FakeFilesystem, birth_ns: int | None, mask: int, seconds: bytes) -> None:
    node = filesystem.add(b"f", b"12345")
    filesystem.nodes[node].birth_ns = birth_ns
    reply = Kernel(filesystem).send(Opcode.STATX, node, u32(0, 0) + u64(0) + u32(0, 0xFFF))
    assert len(reply) == 32 + 256
    assert reply[32:36] == u32(mask)
    assert reply[32 + 80 : 32 + 92] == seconds


GET_FLAGS, SET_FLAGS, GET_FSXATTR, SET_FSXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820


def ioctl(command: int, data: bytes = b"", out_size: int = 0) -> bytes:
    return u64(0) + u32(0, command) + u64(0) + u32(len(data), out_size) + data


def test_ioctls_of_flags_reach_the_filesystem(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f")
    kernel = Kernel(filesystem)
    done = bytes(16)
    assert kernel.send(Opcode.IOCTL, node, ioctl(SET_FLAGS, u32(0x48))) == done
    assert filesystem.nodes[node].flags == 0x48
    assert kernel.send(Opcode.IOCTL, node, ioctl(GET_FLAGS, out_size=4)) == done + u32(0x48)
    assert kernel.send(Opcode.IOCTL, node, ioctl(GET_FLAGS, out_size=8)) == done + u32(0x48, 0)
    fsxattr = u32(0x80, 4096, 1, 5, 8192, 0, 0)
    assert kernel.send(Opcode.IOCTL, node, ioctl(SET_FSXATTR, fsxattr)) == done
    assert filesystem.nodes[node].extended_flags == (0x80, 4096, 1, 5, 8192)
    assert kernel.send(Opcode.IOCTL, node, ioctl(GET_FSXATTR, out_size=28)) == done + fsxattr


def test_other_ioctls_are_enotty(filesystem: FakeFilesystem) -> None:
    with pytest.raises(OSError, match="ioctl") as caught:
        Kernel(filesystem).send(Opcode.IOCTL, filesystem.add(b"f"), ioctl(0x5401, out_size=60))
    assert caught.value.errno == errno.ENOTTY


def test_ioctl_without_its_data_is_malformed(filesystem: FakeFilesystem) -> None:
    for command in (SET_FLAGS, SET_FSXATTR):
        with pytest.raises(wire.MalformedRequestError):
            Kernel(filesystem).send(Opcode.IOCTL, filesystem.add(b"%d" % command), ioctl(command, b"abc"))


@pytest.mark.parametrize(("opcode", "expected"), [(Opcode.GETXATTR, b"value"), (Opcode.LISTXATTR, b"user.a\0")])
def test_xattr_size_zero_asks_for_the_length_only(filesystem: FakeFilesystem, opcode: Opcode, expected: bytes) -> None:
    filesystem.nodes[ROOT_ID].xattrs[b"user.a"] = b"value"
    kernel = Kernel(filesystem)
    name = b"user.a\0" if opcode is Opcode.GETXATTR else b""
    assert kernel.send(opcode, ROOT_ID, u32(0, 0) + name) == u32(len(expected), 0)
    assert kernel.send(opcode, ROOT_ID, u32(len(expected), 0) + name) == expected
    with pytest.raises(OSError, match="longer") as caught:
        kernel.send(opcode, ROOT_ID, u32(len(expected) - 1, 0) + name)
    assert caught.value.errno == errno.ERANGE


def test_acl_that_the_caller_may_not_set_with_sgid_drops_it(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f", mode=0o2755)
    acl = b"system.posix_acl_access\0acl"
    kernel = Kernel(filesystem)
    kernel.send(Opcode.SETXATTR, node, u32(3, 0, 0, 0) + acl)
    assert filesystem.nodes[node].mode & stat.S_ISGID
    kernel.send(Opcode.SETXATTR, node, u32(3, 0, 1, 0) + acl)
    assert filesystem.nodes[node].mode == stat.S_IFREG | 0o755


def test_setxattr_of_a_kernel_without_the_extended_form_is_understood(filesystem: FakeFilesystem) -> None:
    Kernel(filesystem, InitFlag(0)).send(Opcode.SETXATTR, ROOT_ID, u32(2, 0) + b"user.a\0hi")
    assert filesystem.nodes[ROOT_ID].xattrs == {b"user.a": b"hi"}


def listing(size: int, offset: int = 0) -> bytes:
    return u64(0, offset) + u32(size, 0) + u64(0) + u32(0, 0)


def test_readdirplus_counts_no_lookup_for_dot_and_dotdot(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f")
    payload = Kernel(filesystem).send(Opcode.READDIRPLUS, ROOT_ID, listing(4096))
    assert wire.direntplus_nodes(payload) == [node]
    assert filesystem.nlookup == {node: 1}


def test_row_that_does_not_fit_is_given_back(filesystem: FakeFilesystem) -> None:
    first, second = filesystem.add(b"a"), filesystem.add(b"b")
    row = wire.DIRENTPLUS_SIZE + 8
    payload = Kernel(filesystem).send(Opcode.READDIRPLUS, ROOT_ID, listing(4 * row - 1))
    assert len(payload) == 3 * row
    assert filesystem.nlookup == {first: 1, second: 0}


def test_listing_that_fails_midway_returns_what_it_has_and_the_error_next(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"a")
    filesystem.add(b"bad")

    def fail(name: bytes) -> None:
        if name == b"bad":
            raise OSError(errno.EIO, "unreadable")

    filesystem.hooks["row"] = fail
    kernel = Kernel(filesystem)
    assert wire.direntplus_nodes(kernel.send(Opcode.READDIRPLUS, ROOT_ID, listing(4096))) == [node]
    with pytest.raises(OSError, match="unreadable"):
        kernel.send(Opcode.READDIRPLUS, ROOT_ID, listing(4096, offset=3))


def test_lookups_of_undelivered_replies_are_taken_back(filesystem: FakeFilesystem) -> None:
    filesystem.add(b"a")
    filesystem.add(b"b")
    kernel = Kernel(filesystem)
    for opcode, body in (
        (Opcode.LOOKUP, b"a\0"),
        (Opcode.MKDIR, u32(0o755, 0) + b"d\0"),
        (Opcode.CREATE, u32(0o101, stat.S_IFREG | 0o644, 0, 0) + b"f\0"),
        (Opcode.READDIRPLUS, listing(4096)),
        (Opcode.LOOKUP, b"missing\0"),
        (Opcode.STATFS, b""),
    ):
        kernel.take_back(opcode, ROOT_ID, kernel.send(opcode, ROOT_ID, body))
    assert filesystem.nlookup.total() == 0
    assert set(filesystem.nlookup.values()) == {0}


def test_batch_forget_takes_lookups_back(filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"a")
    kernel = Kernel(filesystem)
    kernel.send(Opcode.LOOKUP, ROOT_ID, b"a\0")
    kernel.send(Opcode.LOOKUP, ROOT_ID, b"a\0")
    body = memoryview(u32(1, 0) + u64(node, 2))
    kernel.handlers.unanswered[Opcode.BATCH_FORGET](body, (40, Opcode.BATCH_FORGET, 1, 0, 0, 0, 0, 0))
    assert filesystem.nlookup[node] == 0


@pytest.mark.parametrize("opcode", [op for op in Opcode if op not in (Opcode.INIT, Opcode.OPEN)])
def test_every_operation_meets_a_short_body_with_one_exception(filesystem: FakeFilesystem, opcode: Opcode) -> None:
    kernel = Kernel(filesystem)
    if opcode not in kernel.handlers.operations or opcode in _WITHOUT_BODY:
        assert opcode in _WITHOUT_BODY | _REFUSED | set(kernel.handlers.unanswered)
        return
    with pytest.raises(wire.MalformedRequestError):
        kernel.send(opcode, ROOT_ID, b"x")


_WITHOUT_BODY = {Opcode.GETATTR, Opcode.STATX, Opcode.READLINK, Opcode.STATFS, Opcode.RELEASE, Opcode.DESTROY}
_REFUSED = {
    Opcode.FLUSH,
    Opcode.OPENDIR,
    Opcode.RELEASEDIR,
    Opcode.GETLK,
    Opcode.SETLK,
    Opcode.SETLKW,
    Opcode.ACCESS,
    Opcode.BMAP,
    Opcode.POLL,
    Opcode.NOTIFY_REPLY,
    Opcode.SETUPMAPPING,
    Opcode.REMOVEMAPPING,
    Opcode.SYNCFS,
}
