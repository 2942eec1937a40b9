"""Flags of chattr(1), and the time of birth."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from pathlib import Path

import pytest

from .layers import Dir, Symlink
from .process import in_child
from .syscalls import fails_with, opened
from .union import Union

layers = pytest.mark.layers

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
TCGETS = 0x5401
IMMUTABLE, APPEND, NODUMP, NOATIME = 0x10, 0x20, 0x40, 0x80
XFLAG_NODUMP = 0x80


def get_flags(path: Path) -> int:
    with opened(path, os.O_RDONLY) as fd:
        return struct.unpack("=I4x", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0]  # type: ignore[no-any-return]


def set_flags(path: Path, flags: int) -> None:
    with opened(path, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("=I4x", flags))


def has_flags(union: Union) -> bool:
    """Whether the backend has flags; where not, the error that programs know is tested here."""
    if union.deviates("inode-flags", kernel=True, ours=False):
        return True
    for action in (get_flags, lambda path: set_flags(path, NODUMP)):
        with fails_with(errno.ENOTTY):
            action(union.merged)
    return False


where = pytest.mark.parametrize(
    "where",
    [
        pytest.param("lower file", marks=layers({"x": b"data"})),
        pytest.param("upper file", marks=layers(upper={"x": b"data"})),
        pytest.param("lower directory", marks=layers({"x": Dir()})),
        pytest.param("merged directory", marks=layers({"x": Dir()}, upper={"x": Dir()})),
    ],
)


@where
def test_are_set_and_read(union: Union, where: str) -> None:
    if has_flags(union):
        before = get_flags(union.merged / "x")
        assert before & (NODUMP | NOATIME) == 0, where
        set_flags(union.merged / "x", before | NODUMP)
        assert get_flags(union.merged / "x") == before | NODUMP
        assert get_flags(union.upper / "x") & NODUMP
        set_flags(union.merged / "x", before)
        assert get_flags(union.merged / "x") == before


@where
def test_other_form_shows_and_sets_the_same(union: Union, where: str) -> None:
    if has_flags(union):
        with opened(union.merged / "x", os.O_RDONLY) as fd:
            value = bytearray(fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))
            assert not value[0] & XFLAG_NODUMP, where
            value[0] |= XFLAG_NODUMP
            fcntl.ioctl(fd, FS_IOC_FSSETXATTR, bytes(value))
        assert get_flags(union.upper / "x") & NODUMP
        assert get_flags(union.merged / "x") & NODUMP


def set_project(path: Path) -> object:
    """Give ``path`` a project id; that and the extended flags from then on, or the errno of a filesystem without project ids."""
    with opened(path, os.O_RDONLY) as fd:
        xflags, extsize, extents, _, cow = struct.unpack("=5I8x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))
        try:
            fcntl.ioctl(fd, FS_IOC_FSSETXATTR, struct.pack("=5I8x", xflags, extsize, extents, 42, cow))
        except OSError as error:
            return error.errno
        return struct.unpack("=5I8x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))


@where
def test_project_id_is_set_where_the_filesystem_has_them(union: Union, tmp_path: Path, where: str) -> None:
    plain = tmp_path / "x"
    plain.mkdir() if "directory" in where else plain.write_bytes(b"data")
    if has_flags(union):
        assert set_project(union.merged / "x") == set_project(plain)


@layers({"f": b"data"})
def test_only_the_owner_may_set_them(union: Union) -> None:
    if has_flags(union):
        before = get_flags(union.merged / "f")

        def change() -> None:
            assert get_flags(Path("f")) == before
            for flags in (before | NODUMP, before | IMMUTABLE):
                with fails_with(errno.EPERM):
                    set_flags(Path("f"), flags)

        in_child(change, cwd=union.merged, uid=1000, gid=1000)
        assert not union.is_copied_up("f")


@layers({"f": b"data"})
def test_file_made_immutable_is_protected_or_the_flag_refused(union: Union) -> None:
    if not has_flags(union):
        return
    path = union.merged / "f"
    before = get_flags(path)
    if union.deviates("protecting-flags", kernel=True, ours=False):
        set_flags(path, before | IMMUTABLE)
        with fails_with(errno.EPERM):
            os.open(path, os.O_WRONLY)
        set_flags(path, before)
    else:
        for flag in (IMMUTABLE, APPEND):
            with fails_with(errno.EOPNOTSUPP):
                set_flags(path, before | flag)
        assert get_flags(path) == before
    path.write_bytes(b"changed")


@layers({"f": b"data", "d": Dir()})
def test_other_ioctls_are_enotty(union: Union) -> None:
    for name in ("f", "d"):
        with opened(union.merged / name, os.O_RDONLY) as fd, fails_with(errno.ENOTTY):
            fcntl.ioctl(fd, TCGETS, bytes(60))


def birth(path: Path) -> str:
    """Nanoseconds as stat(1) shows them; ``0`` where there is none."""
    return subprocess.run(["stat", "-c", "%.9W", path], capture_output=True, text=True, check=True).stdout.strip()


NO_BIRTH = "0.000000000"


@layers({"f": b"data", "d/f": b"", "link": Symlink("f")}, upper={"up": b"data"})
def test_birth_is_that_of_the_object_on_its_layer(union: Union) -> None:
    (union.merged / "made").touch()
    layers = [(union.lower, "f"), (union.lower, "d"), (union.lower, "link"), (union.upper, "up"), (union.upper, "made")]
    for layer, name in layers:
        assert birth(union.merged / name) == union.deviates("birth-time", kernel=birth(layer / name), ours=NO_BIRTH)


@layers({"f": b"data", "seen": b"data"})
def test_copy_up_makes_another_birth(union: Union) -> None:
    before = birth(union.merged / "seen")
    for name in ("f", "seen"):
        (union.merged / name).write_bytes(b"new")
    after = union.deviates("birth-time", kernel=birth(union.upper / "f"), ours=NO_BIRTH)
    assert birth(union.merged / "f") == after
    after = union.deviates("birth-time", kernel=birth(union.upper / "seen"), ours=NO_BIRTH)
    # Which of the two depends on whether the kernel had to forget the inode meanwhile.
    assert birth(union.merged / "seen") in union.deviates("birth-over-copy-up", kernel={after}, ours={before, after})
