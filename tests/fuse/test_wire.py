"""The codec, on literal bytes.  The integers are written out little-endian, so these tests need such a machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.filesystem import Attr, DirRow, StaleAttributes, StaleContents, StaleName, StatFs
from unionfs.fuse import wire
from unionfs.fuse.protocol import InitFlag

assert sys.byteorder == "little"

VALID = wire.entry_validity(wire.validity(3), wire.validity(1.5))

ATTR = Attr(
    ino=0x1122,
    size=5,
    blocks=8,
    atime=-1,
    mtime=2,
    ctime=3,
    atimensec=4,
    mtimensec=5,
    ctimensec=6,
    mode=0o100644,
    nlink=7,
    uid=8,
    gid=9,
    rdev=10,
    blksize=4096,
    flags=0,
)
ATTR_BYTES = bytes.fromhex(
    "2211000000000000 0500000000000000 0800000000000000"
    "ffffffffffffffff 0200000000000000 0300000000000000"
    "04000000 05000000 06000000 a4810000 07000000 08000000 09000000 0a000000 00100000 00000000"
)


def u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little", signed=value < 0) for value in values)


# -- requests ---------------------------------------------------------------------------------------------------------


def test_request_header_is_forty_bytes() -> None:
    header = u32(56, 1) + u64(2, 3) + u32(1000, 1001, 77) + b"\1\0\xff\xff"
    assert len(header) == 40
    assert wire.REQUEST_HEADER.decode(header) == (56, 1, 2, 3, 1000, 1001, 77, 1)


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (wire.REQUEST_HEADER, 40),
        (wire.SETATTR_IN, 88),
        (wire.MKNOD_IN, 16),
        (wire.MKDIR_IN, 8),
        (wire.RENAME_IN, 8),
        (wire.RENAME2_IN, 16),
        (wire.LINK_IN, 8),
        (wire.OPEN_IN, 8),
        (wire.CREATE_IN, 16),
        (wire.READ_IN, 40),
        (wire.WRITE_IN, 40),
        (wire.FSYNC_IN, 16),
        (wire.SETXATTR_IN, 16),
        (wire.SETXATTR_IN_COMPAT, 8),
        (wire.GETXATTR_IN, 8),
        (wire.FALLOCATE_IN, 32),
        (wire.LSEEK_IN, 24),
        (wire.COPY_FILE_RANGE_IN, 56),
        (wire.IOCTL_IN, 32),
        (wire.BATCH_FORGET_IN, 8),
        (wire.FORGET_ONE, 16),
        (wire.REPLY_HEADER, 16),
        (wire.ENTRY_OUT, 128),
        (wire.ATTR_OUT, 104),
        (wire.OPEN_OUT, 16),
        (wire.WRITE_OUT, 8),
        (wire.STATFS_OUT, 80),
        (wire.GETXATTR_OUT, 8),
        (wire.LSEEK_OUT, 8),
        (wire.COPY_FILE_RANGE_64_OUT, 8),
        (wire.IOCTL_OUT, 16),
        (wire.STATX_OUT, 288),
        (wire.DIRENT, 24),
        (wire.INIT_OUT, 64),
        (wire.INVAL_INODE_OUT, 24),
        (wire.BACKING_MAP, 16),
    ],
)
def test_structures_have_the_sizes_of_the_kernel_header(layout: wire.Layout, size: int) -> None:
    assert layout.size == size


def test_setattr_times_before_1970_are_negative() -> None:
    body = u32(0x30, 0) + u64(1, 2, 3, -5, -6, 7) + u32(10, 11, 12, 0o644, 0, 13, 14, 0)
    assert wire.SETATTR_IN.decode(body) == (0x30, 1, 2, 3, -5, -6, 7, 10, 11, 12, 0o644, 13, 14)


def test_write_data_is_a_view_of_the_request() -> None:
    body = memoryview(bytearray(u64(0, 4096) + u32(3, 4) + u64(0) + u32(0, 0) + b"abc"))
    offset, write_flags, data = wire.decode_write(body)
    assert (offset, write_flags, bytes(data)) == (4096, 4, b"abc")
    assert data.obj is body.obj


def test_write_with_less_data_than_announced_is_malformed() -> None:
    body = memoryview(u64(0, 0) + u32(4, 0) + u64(0) + u32(0, 0) + b"abc")
    with pytest.raises(wire.MalformedRequestError, match="3 bytes of data, 4 announced"):
        wire.decode_write(body)


def test_setxattr_has_two_forms() -> None:
    assert wire.decode_setxattr(u32(2, 1) + b"user.a\0hi", extended=False) == (b"user.a", b"hi", 1, 0)
    assert wire.decode_setxattr(u32(2, 1, 1, 0) + b"user.a\0hi", extended=True) == (b"user.a", b"hi", 1, 1)


def test_batch_forget_lists_nodes_with_their_lookups() -> None:
    assert wire.decode_batch_forget(u32(2, 0) + u64(5, 1, 6, 3)) == [(5, 1), (6, 3)]


def test_batch_forget_with_fewer_nodes_than_announced_is_malformed() -> None:
    with pytest.raises(wire.MalformedRequestError):
        wire.decode_batch_forget(u32(2, 0) + u64(5, 1))


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b"])
def test_name_that_no_directory_entry_can_have_is_malformed(name: bytes) -> None:
    with pytest.raises(wire.MalformedRequestError):
        wire.decode_name(name + b"\0")


def test_name_without_its_nul_is_malformed() -> None:
    with pytest.raises(wire.MalformedRequestError):
        wire.decode_name(b"abc")


def test_what_follows_the_strings_is_ignored() -> None:
    assert wire.decode_strings(b"xxa\0b\0extension", 2, 2) == [b"a", b"b"]


def test_init_flags_above_31_count_only_with_init_ext() -> None:
    flags2 = InitFlag.PASSTHROUGH >> 32
    with_ext = wire.decode_init(u32(7, 45, 131072, InitFlag.INIT_EXT, flags2) + bytes(44))
    without = wire.decode_init(u32(7, 45, 131072, 0, flags2) + bytes(44))
    assert with_ext == (7, 45, 131072, InitFlag.INIT_EXT | InitFlag.PASSTHROUGH)
    assert without.flags == 0


def test_init_of_an_old_kernel_is_shorter() -> None:
    assert wire.decode_init(u32(7, 31, 131072, 1)) == (7, 31, 131072, InitFlag.ASYNC_READ)


DECODERS: list[Callable[[bytes], object]] = [
    wire.REQUEST_HEADER.decode,
    wire.SETATTR_IN.decode,
    wire.CREATE_IN.decode,
    wire.decode_name,
    wire.decode_batch_forget,
    wire.decode_init,
    lambda body: wire.decode_write(memoryview(body)),
    lambda body: wire.decode_setxattr(body, extended=True),
    lambda body: wire.decode_setxattr(body, extended=False),
    lambda body: wire.decode_strings(body, 8, 2),
    lambda body: wire.decode_name(body, wire.MKNOD_IN.size),
]


@given(st.sampled_from(DECODERS), st.binary(max_size=200))
def test_garbage_is_decoded_or_malformed_and_nothing_else(decode: Callable[[bytes], object], body: bytes) -> None:
    with contextlib.suppress(wire.MalformedRequestError):
        decode(body)


# -- replies ----------------------------------------------------------------------------------------------------------


def test_entry_reply_carries_node_validity_and_attributes() -> None:
    reply = wire.encode_entry(7, ATTR, VALID)
    assert reply == u64(7, 0, 3, 1) + u32(0, 500_000_000) + ATTR_BYTES


def test_negative_entry_has_node_zero_and_a_validity() -> None:
    assert wire.encode_no_entry(wire.validity(3)) == u64(0, 0, 3, 0) + bytes(96)


def test_attr_reply_has_validity_before_attributes() -> None:
    assert wire.encode_attr(ATTR, wire.validity(1.5)) == u64(1) + u32(500_000_000, 0) + ATTR_BYTES


def test_statx_reply_has_four_times_and_splits_the_device() -> None:
    # new_encode_dev(): major 0x123, minor 0x45678
    reply = wire.encode_statx(ATTR._replace(rdev=0x45612378), 7_000_000_008, wire.validity(1.5))
    expected = (
        u64(1) + u32(500_000_000, 0) + u64(0, 0),
        u32(0xFFF, 4096) + u64(0) + u32(7, 8, 9) + bytes.fromhex("a481 0000") + u64(0x1122, 5, 8, 0),
        *(u64(seconds) + u32(nanoseconds, 0) for seconds, nanoseconds in ((-1, 4), (7, 8), (3, 6), (2, 5))),
        u32(0x123, 0x45678, 0, 0) + bytes(112),
    )
    assert reply == b"".join(expected)


def test_statfs_reply_has_spare_fields_at_the_end() -> None:
    assert wire.encode_statfs(StatFs(1, 2, 3, 4, 5, 6, 7, 8)) == u64(1, 2, 3, 4, 5) + u32(6, 7, 8) + bytes(28)


@pytest.mark.parametrize(("name", "padding"), [(b"a", 7), (b"1234567", 1), (b"12345678", 0), (b"123456789", 7)])
def test_directory_entry_is_padded_to_eight_bytes(name: bytes, padding: int) -> None:
    record = wire.encode_dirent(DirRow(name, 10, 8, 20, None))
    assert record == u64(10, 20) + u32(len(name), 8) + name + bytes(padding)


def test_init_reply_splits_the_flags() -> None:
    flags = InitFlag.INIT_EXT | InitFlag.PASSTHROUGH
    reply = wire.encode_init(45, 131072, flags, 64, 1 << 20, 256, 2)
    assert reply == (
        u32(7, 45, 131072, 1 << 30) + b"\x40\0\x30\0" + u32(1 << 20, 1) + b"\0\1\0\0" + u32(1 << 5, 2) + b"\0\0" + bytes(22)
    )


def test_attribute_notice_is_unasked_and_spares_the_data() -> None:
    assert wire.encode_notice(StaleAttributes(9)) == u32(40, 2) + u64(0) + u64(9, -1, 0)


def test_contents_notice_is_about_all_of_the_data() -> None:
    assert wire.encode_notice(StaleContents(9)) == u32(40, 2) + u64(0) + u64(9, 0, 0)


def test_name_notice_ends_with_a_nul_that_does_not_count() -> None:
    assert wire.encode_notice(StaleName(9, b"name")) == u32(37, 3) + u64(0) + u64(9) + u32(4, 0) + b"name\0"


def test_xattr_names_end_with_nul() -> None:
    assert wire.encode_xattr_names([b"user.a", b"user.b"]) == b"user.a\0user.b\0"
    assert wire.encode_xattr_names([]) == b""


@pytest.mark.parametrize("name", [b"a", b"1234567", b"12345678", b"123456789"])
def test_direntplus_is_an_entry_and_a_dirent(name: bytes) -> None:
    row = DirRow(name, 7, 8, 2, None)
    assert wire.encode_direntplus(row, 9, ATTR, VALID) == wire.encode_entry(9, ATTR, VALID) + wire.encode_dirent(row)


def test_nodes_of_a_readdirplus_payload_leave_out_rows_without_entry() -> None:
    dot = wire.NO_ENTRY + wire.encode_dirent(DirRow(b".", 1, 4, 1, None))
    row = wire.encode_direntplus(DirRow(b"name", 7, 8, 2, None), 7, ATTR, VALID)
    assert wire.direntplus_nodes(dot + row + row) == [7, 7]


def test_prune_lists_the_nodes() -> None:
    assert wire.encode_prune([7, 1 << 40]) == u32(48, 9) + u64(0) + u32(2, 0) + u64(0) + u64(7, 1 << 40)
