"""What is in a tar is in the layer, in the kernel OverlayFS's format."""

from __future__ import annotations

import base64
import os
import stat
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.store.archive.conftest import Bench
from tests.store.tars import directory, entry, hard_link, symlink, tar_of, xattrs

CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # include/uapi/linux/capability.h, struct vfs_cap_data


def is_whiteout(path: Path) -> bool:
    st = os.lstat(path)
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def opaque(path: Path) -> bytes | None:
    return os.getxattr(path, "trusted.overlay.opaque") if "trusted.overlay.opaque" in os.listxattr(path) else None


def test_owner_mode_and_time_are_kept(bench: Bench) -> None:
    bench.unpack(
        directory("d", uid=5, gid=6, mode=0o1750, mtime=77),
        entry("d/f", b"x", uid=70000, gid=8, mode=0o6711, pax_headers={"mtime": "12.123456789"}),
        entry("d/old", pax_headers={"mtime": "-1.5"}),
    )
    d, f = os.stat(bench.diff / "d"), os.stat(bench.diff / "d/f")
    assert (d.st_uid, d.st_gid, stat.S_IMODE(d.st_mode), d.st_mtime_ns) == (5, 6, 0o1750, 77 * 10**9)
    assert (f.st_uid, f.st_gid, stat.S_IMODE(f.st_mode), f.st_mtime_ns) == (70000, 8, 0o6711, 12_123456789)
    assert os.stat(bench.diff / "d/old").st_mtime_ns == -1_500_000_000


def test_capability_survives_the_change_of_owner(bench: Bench) -> None:
    bench.unpack(
        entry("ping", b"elf", uid=9, mode=0o755, pax_headers=xattrs(security__capability=CAP_NET_RAW, user__a=b"\xff\0\n="))
    )
    assert os.getxattr(bench.diff / "ping", "security.capability") == CAP_NET_RAW
    assert os.getxattr(bench.diff / "ping", "user.a") == b"\xff\0\n="


def test_attributes_as_libarchive_writes_them_are_kept(bench: Bench) -> None:
    value = base64.b64encode(b"\0value").decode().rstrip("=")
    bench.unpack(entry("f", pax_headers={"LIBARCHIVE.xattr.user.a%25b": value}))
    assert os.getxattr(bench.diff / "f", "user.a%b") == b"\0value"


def test_mark_of_a_union_in_an_archive_is_escaped(bench: Bench) -> None:
    bench.unpack(directory("d", pax_headers=xattrs(trusted__overlay__opaque=b"y")))
    assert os.listxattr(bench.diff / "d") == ["trusted.overlay.overlay.opaque"]


def test_links_devices_and_fifos_are_made(bench: Bench) -> None:
    bench.unpack(
        entry("f", b"content"),
        hard_link("./g", "./f"),
        symlink("s", "/etc/passwd"),
        entry("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("disk", kind=tarfile.BLKTYPE, devmajor=7, devminor=200),
        entry("pipe", kind=tarfile.FIFOTYPE),
    )
    assert os.stat(bench.diff / "f").st_ino == os.stat(bench.diff / "g").st_ino
    assert (bench.diff / "s").readlink() == Path("/etc/passwd")
    assert os.stat(bench.diff / "null").st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK(os.stat(bench.diff / "disk").st_mode)
    assert (bench.diff / "pipe").is_fifo()


def test_whiteouts_become_devices_and_opaque_marks_attributes(bench: Bench) -> None:
    bench.unpack(entry("a/.wh.gone"), entry("b/.wh..wh..opq"), entry("b/new", b"1"))
    assert is_whiteout(bench.diff / "a/gone")
    assert opaque(bench.diff / "b") == b"y"
    assert sorted(os.listdir(bench.diff / "b")) == ["new"]


def test_what_aufs_keeps_for_itself_is_left_out(bench: Bench) -> None:
    bench.unpack(entry(".wh..wh.aufs", b"some"), directory(".wh..wh.plnk"), entry(".wh..wh.plnk/1.2", b"more"))
    assert os.listdir(bench.diff) == []


@pytest.mark.parametrize("file_first", [True, False])
def test_whiteout_hides_no_file_of_its_own_archive(bench: Bench, file_first: bool) -> None:
    both = [entry("f", b"kept"), entry(".wh.f")]
    bench.unpack(*(both if file_first else reversed(both)))
    assert (bench.diff / "f").read_bytes() == b"kept"


@pytest.mark.parametrize("directory_first", [True, False])
def test_directory_with_a_whiteout_of_its_name_is_opaque(bench: Bench, directory_first: bool) -> None:
    both = [directory("d"), entry(".wh.d")]
    bench.unpack(*(both if directory_first else reversed(both)), entry("d/f"))
    assert opaque(bench.diff / "d") == b"y"


def test_last_of_several_entries_of_one_name_counts(bench: Bench) -> None:
    bench.unpack(
        directory("d", mode=0o700),
        entry("d/f", b"first"),
        entry("d/f", b"second!"),
        directory("d", mode=0o711, pax_headers=xattrs(user__n=b"1")),
    )
    assert (bench.diff / "d/f").read_bytes() == b"second!"
    assert stat.S_IMODE(os.stat(bench.diff / "d").st_mode) == 0o711


def test_file_in_place_of_a_directory_takes_away_what_was_in_it(bench: Bench) -> None:
    bench.unpack(directory("d"), entry("d/f", b"gone"), hard_link("other", "d/f"), entry("d", b"file"), entry("other", b"too"))
    assert (bench.diff / "d").read_bytes() == b"file"
    assert (bench.diff / "other").read_bytes() == b"too"


def test_long_runs_of_zeros_become_holes(bench: Bench) -> None:
    bench.unpack(entry("f", b"a" * 4096 + bytes(1 << 21) + b"z"))
    st = os.stat(bench.diff / "f")
    assert st.st_size == 4096 + (1 << 21) + 1
    assert st.st_blocks * 512 < 1 << 19


@pytest.mark.parametrize(
    "format_", [["--format=gnu"], ["--format=pax"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1"))]
)
def test_sparse_files_of_gnu_tar_are_unpacked_with_their_holes(bench: Bench, tmp_path: Path, format_: list[str]) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        for piece in range(30):  # more than a header has room for
            file.seek(piece << 17)
            file.write(b"piece %d" % piece)
        file.truncate(1 << 23)
    command = ["tar", "--sparse", *format_, "-cf", "-", "-C", tmp_path, "sparse"]
    bench.unpack_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert (bench.diff / "sparse").read_bytes() == (tmp_path / "sparse").read_bytes()
    assert os.stat(bench.diff / "sparse").st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_are_long_or_no_utf8_are_kept(bench: Bench, format_: int) -> None:
    name = "/".join(["d" * 100] * 3) + "/n\udcff"
    bench.unpack_bytes(tar_of(entry(name, b"1"), format_=format_))
    assert (bench.diff / name).read_bytes() == b"1"


def test_empty_archive_is_an_empty_layer(bench: Bench) -> None:
    assert bench.unpack().entries == 0


def test_what_follows_the_end_belongs_to_the_digest(bench: Bench) -> None:
    bench.unpack_bytes(tar_of(entry("f", b"1")) + bytes(10240) + b"rubbish")
