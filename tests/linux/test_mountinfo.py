from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.linux.mount import mount, umount
from unionfs.linux.mountinfo import Mount, mount_id, read_mountinfo


def test_every_field_of_a_line_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_bytes(
        b"36 35 98:0 /mnt1 /mnt2\\040x rw,noatime master:1 propagate_from:2 - ext3 /dev/root\\134 rw,errors=continue\n"
        b"37 36 0:5 / /caf\xe9 ro - tmpfs  rw\n"
    )
    assert read_mountinfo(file) == [
        Mount(
            id=36,
            parent=35,
            device=os.makedev(98, 0),
            root="/mnt1",
            mount_point=Path("/mnt2 x"),
            options="rw,noatime",
            fstype="ext3",
            source="/dev/root\\",
            super_options="rw,errors=continue",
            tags=("master:1", "propagate_from:2"),
        ),
        Mount(37, 36, os.makedev(0, 5), "/", Path(os.fsdecode(b"/caf\xe9")), "ro", "tmpfs", "", "rw"),
    ]


def test_real_mount_with_blanks_and_other_bytes_in_its_name_is_found(tmp_path: Path) -> None:
    target = tmp_path / os.fsdecode(b"a b\tc\nd\\e\xff - f")
    target.mkdir()
    mount(b"my source", bytes(target), b"tmpfs", 0, b"size=1m")
    try:
        (found,) = (m for m in read_mountinfo() if m.mount_point == target)
        assert found.source == "my source"
        assert found.fstype == "tmpfs"
        assert found.device == target.stat().st_dev
    finally:
        umount(bytes(target), 0)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        read_mountinfo(tmp_path / "none")


def test_mount_id_is_that_of_the_mount_a_path_leads_to() -> None:
    mounts = {mount.mount_point: mount.id for mount in read_mountinfo()}
    assert mount_id(Path("/proc/self/status")) == mounts[Path("/proc")]
    with pytest.raises(FileNotFoundError):
        mount_id(Path("/proc/self/missing"))


@pytest.mark.parametrize(
    ("tags", "is_shared", "is_slave"),
    [("", False, False), ("shared:3 ", True, False), ("shared:3 master:1 ", True, True)],
)
def test_tags_tell_what_a_mount_shares(tmp_path: Path, tags: str, is_shared: bool, is_slave: bool) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(f"36 35 98:0 / / rw {tags}- ext3 /dev/root rw\n")
    (found,) = read_mountinfo(file)
    assert (found.is_shared, found.is_slave) == (is_shared, is_slave)
