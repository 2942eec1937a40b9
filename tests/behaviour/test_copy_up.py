"""The first change of a lower object moves it to the upper with everything it had, whatever the change is."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from . import acl
from .layers import FIFO, OLD_NS, SOCKET, Dir, File, Special, Symlink
from .syscalls import fails_with, opened
from .union import Union

layers = pytest.mark.layers

NET_RAW = b"\x01\x00\x00\x02" + (1 << 13).to_bytes(4, "little") + bytes(12)
"""security.capability: revision 2, effective, CAP_NET_RAW permitted (include/uapi/linux/capability.h, vfs_cap_data)."""

XATTRS = {
    "user.note": b"kept",
    "trusted.secret": b"\0\xff",
    "security.other": b"label",
    acl.ACCESS: acl.with_user(6, 1234, 4, 4, 4, 4),
}
RICH = File(b"0123456789", mode=0o644, uid=41, gid=42, xattrs=XATTRS)
RICH_MODE = 0o644


@layers({"f": RICH})
class TestFirstChangeOfFile:
    """Every change leaves all else as it was: data, owner, mode, times, xattrs."""

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            pytest.param(
                lambda path: path.chmod(0o754),
                # acl(5): with a mask, the group class of the mode is the mask.
                {"mode": 0o754, "xattrs": {**XATTRS, acl.ACCESS: acl.with_user(7, 1234, 4, 4, 5, 4)}},
                id="chmod",
            ),
            pytest.param(lambda path: os.chown(path, 51, 52), {"owner": (51, 52)}, id="chown"),
            pytest.param(lambda path: os.utime(path, ns=(1, 2)), {"mtime_ns": 2}, id="utimes"),
            pytest.param(
                lambda path: os.setxattr(path, "user.new", b"1"), {"xattrs": {**XATTRS, "user.new": b"1"}}, id="setxattr"
            ),
            pytest.param(
                lambda path: os.removexattr(path, "user.note"),
                {"xattrs": {name: value for name, value in XATTRS.items() if name != "user.note"}},
                id="removexattr",
            ),
            pytest.param(lambda path: os.link(path, path.with_name("g")), {}, id="link"),
        ],
    )
    def test_keeps_all_else(self, union: Union, change: Callable[[Path], object], expected: dict[str, object]) -> None:
        change(union.merged / "f")
        wanted: dict[str, object] = {
            "data": RICH.data,
            "mode": RICH_MODE,
            "owner": (41, 42),
            "mtime_ns": OLD_NS,
            "xattrs": XATTRS,
        }
        assert self.described(union.merged / "f") == wanted | expected
        assert self.described(union.upper / "f") == wanted | expected

    @pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND])
    def test_may_be_to_open_it_for_writing(self, union: Union, flags: int) -> None:
        before = self.described(union.merged / "f")
        with opened(union.merged / "f", flags):
            assert union.is_copied_up("f") == union.deviates("lazy-copy-up", kernel=True, ours=False)
        assert self.described(union.merged / "f") == before

    @staticmethod
    def described(path: Path) -> dict[str, object]:
        status = path.lstat()
        own = "trusted.overlay."
        return {
            "data": path.read_bytes(),
            "mode": stat.S_IMODE(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "mtime_ns": status.st_mtime_ns,
            "xattrs": {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith(own)},
        }


@layers({"f": File(b"0123456789", mode=0o600, uid=41)})
@pytest.mark.parametrize(
    ("change", "data"),
    [
        pytest.param(lambda path: os.truncate(path, 4), b"0123", id="truncate down"),
        pytest.param(lambda path: os.truncate(path, 12), b"0123456789\0\0", id="truncate up"),
        pytest.param(lambda path: path.open("r+b").write(b"ab"), b"ab23456789", id="write"),
        pytest.param(lambda path: path.open("ab").write(b"ab"), b"0123456789ab", id="append"),
        pytest.param(lambda path: path.write_bytes(b"ab"), b"ab", id="O_TRUNC"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_data_change_copies_up_and_sets_mtime(union: Union, change: Callable[[Path], object], data: bytes) -> None:
    change(union.merged / "f")
    assert (union.merged / "f").read_bytes() == data
    assert (union.upper / "f").read_bytes() == data
    status = (union.merged / "f").stat()
    assert status.st_mtime_ns > OLD_NS
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 41)


@layers({"f": b"x", "d": Dir(mode=0o1777, uid=9), "d/f": b""})
def test_reading_copies_nothing_up(union: Union) -> None:
    (union.merged / "f").read_bytes()
    os.listdir(union.merged / "d")
    os.stat(union.merged / "f")
    with fails_with(errno.ENODATA):
        os.getxattr(union.merged / "f", "user.none")
    assert not union.upper.exists()


@layers({"f": File(b"x", xattrs={"security.capability": NET_RAW})})
class TestFileCapability:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda path: path.chmod(0o755), id="chmod"),
            pytest.param(lambda path: os.utime(path), id="utimes"),
            pytest.param(lambda path: os.setxattr(path, "user.a", b""), id="setxattr"),
        ],
    )
    def test_is_kept_by_copy_up(self, union: Union, change: Callable[[Path], object]) -> None:
        change(union.merged / "f")
        assert union.is_copied_up("f")
        assert os.getxattr(union.merged / "f", "security.capability") == NET_RAW

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda path: path.write_bytes(b"new"), id="write"),
            pytest.param(lambda path: os.truncate(path, 0), id="truncate"),
            pytest.param(lambda path: os.chown(path, 1, 1), id="chown"),
        ],
    )
    def test_is_dropped_by_change_of_data_or_owner(self, union: Union, change: Callable[[Path], object]) -> None:
        assert os.getxattr(union.merged / "f", "security.capability") == NET_RAW
        change(union.merged / "f")
        with fails_with(errno.ENODATA):
            os.getxattr(union.merged / "f", "security.capability")


MIB = 1 << 20


@layers({"f": File(extents={0: b"start", 8 * MIB: b"middle"}, size=16 * MIB)})
def test_holes_stay_holes(union: Union) -> None:
    os.chmod(union.merged / "f", 0o600)
    copied = (union.upper / "f").stat()
    assert copied.st_size == 16 * MIB
    # The kernel copies whole chunks of 1 MiB around the data (OVL_COPY_UP_CHUNK_SIZE).
    assert copied.st_blocks * 512 < 4 * MIB
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        assert os.pread(fd, 5, 0) == b"start"
        assert os.pread(fd, 10, 8 * MIB - 2) == b"\0\0middle\0\0"
        assert os.pread(fd, 10, 16 * MIB - 4) == bytes(4)


@layers({"f": bytes(range(256)) * 4 * 5000})
def test_large_file_is_copied_whole(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:
        os.pwrite(fd, b"X", 3_000_000)
    expected = bytearray(bytes(range(256)) * 4 * 5000)
    expected[3_000_000:3_000_001] = b"X"
    assert (union.upper / "f").read_bytes() == expected
    assert (union.merged / "f").read_bytes() == expected


@layers(
    {
        "link": Symlink("target", uid=3),
        "fifo": FIFO,
        "socket": SOCKET,
        "char": Special(stat.S_IFCHR, os.makedev(1, 3), mode=0o666),
        "block": Special(stat.S_IFBLK, os.makedev(7, 99), mode=0o660),
    }
)
@pytest.mark.parametrize("name", ["link", "fifo", "socket", "char", "block"])
def test_special_object_is_copied_up_as_what_it_is(union: Union, name: str) -> None:
    before = (union.merged / name).lstat()
    os.chown(union.merged / name, 77, 78, follow_symlinks=False)
    for path in (union.merged / name, union.upper / name):
        now = path.lstat()
        assert (now.st_mode, now.st_rdev, now.st_size) == (before.st_mode, before.st_rdev, before.st_size)
        assert (now.st_uid, now.st_gid) == (77, 78)
        assert now.st_mtime_ns == OLD_NS
    if name == "link":
        assert os.readlink(union.merged / name) == "target"


@layers({"link": Symlink("f"), "f": b""})
def test_times_and_xattrs_of_a_symlink_are_its_own(union: Union) -> None:
    os.utime(union.merged / "link", ns=(5, 6), follow_symlinks=False)
    os.setxattr(union.merged / "link", "trusted.x", b"1", follow_symlinks=False)
    assert (union.merged / "link").lstat().st_mtime_ns == 6
    assert (union.upper / "link").lstat().st_mtime_ns == 6
    assert os.getxattr(union.merged / "link", "trusted.x", follow_symlinks=False) == b"1"
    assert not union.is_copied_up("f")


@layers([{"d": Dir(mode=0o2750, uid=4, gid=5, xattrs={"user.d": b"1", "trusted.t": b"2"}), "d/f": b""}, {"d/g": b""}])
def test_directory_copied_up_for_its_own_sake_stays_merged(union: Union) -> None:
    (union.merged / "d").chmod(0o711)
    upper = (union.upper / "d").stat()
    assert (stat.S_IMODE(upper.st_mode), upper.st_uid, upper.st_gid, upper.st_mtime_ns) == (0o711, 4, 5, OLD_NS)
    assert os.getxattr(union.upper / "d", "user.d") == b"1"
    assert os.getxattr(union.upper / "d", "trusted.t") == b"2"
    assert union.names("d") == ["f", "g"]
    assert os.listdir(union.upper / "d") == []


@layers({"f": File(b"x", mode=0o4755, uid=10, gid=10)})
def test_set_id_bits_survive_copy_up_by_metadata_change(union: Union) -> None:
    os.utime(union.merged / "f", ns=(1, 1))
    status = (union.upper / "f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o4755, 10)


@layers({"f": b"data"})
def test_open_for_writing_with_o_trunc_leaves_an_empty_file(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY | os.O_TRUNC):
        pass
    assert (union.upper / "f").read_bytes() == b""
    assert (union.merged / "f").stat().st_size == 0


@layers([{"f": b"top"}, {"f": b"bottom"}])
def test_copy_up_takes_the_topmost_lower(union: Union) -> None:
    with (union.merged / "f").open("ab") as file:
        file.write(b"+")
    assert (union.upper / "f").read_bytes() == b"top+"


@layers({"f": File(b"x", mode=0o000), "d": Dir(mode=0o000), "d/g": File(b"y", mode=0o000)})
def test_modes_without_any_permission_are_no_obstacle_to_root(union: Union) -> None:
    with (union.merged / "d/g").open("ab") as file:
        file.write(b"+")
    os.chmod(union.merged / "f", 0o200)
    assert (union.merged / "d/g").read_bytes() == b"y+"
    assert stat.S_IMODE((union.upper / "d").stat().st_mode) == 0
