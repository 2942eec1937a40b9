"""The work directory: what a crash left, marks against mounting, the index."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from tests.behaviour.layers import WHITEOUT, Dir, File, Tree
from tests.check.damaged import PREFIX, damaged
from tests.mounts import KERNEL
from unionfs.linux.handles import name_to_handle_at


def handle(path: Path, upper: bool = False) -> bytes:
    """The value with which OverlayFS refers to an object."""
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        kind, fid = name_to_handle_at(fd, os.fsencode(path.name))
    finally:
        os.close(fd)
    return struct.pack("<BBBBB16s", 0, 0xFB, 21 + len(fid), 4 if upper else 0, kind, bytes(16)) + fid


def test_what_a_crash_left_in_the_work_directory_is_removed(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {}, work={"work/#1": b"half", "work/#2/deep/er": b"", "work/#3": WHITEOUT, "index/#4": b""})
    (tmp_path / "outside").write_bytes(b"")
    (stack.work / "work/#5").symlink_to(tmp_path / "outside")
    names = ["work/work/#1", "work/work/#2", "work/work/#5", "work/index/#4"]
    assert stack.repaired() == [("stray-work-file", name) for name in names]
    assert [path.name for path in (stack.work / "work").iterdir()] == ["#3"]
    assert (tmp_path / "outside").exists()


def test_incompat_marks_stay(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {}, work={"work/incompat/volatile/dirty": b"", "work/incompat/novel": Dir()})
    expected = [("incompatible", "work/work/incompat/novel"), ("volatile", "work/work/incompat/volatile")]
    assert stack.repaired() == expected
    assert stack.found() == expected


def test_index_made_by_the_kernel_is_clean_and_its_damage_is_found(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {}, {"a": b"data"})
    merged = tmp_path / "merged"
    merged.mkdir()
    os.link(stack.lowers[0] / "a", stack.lowers[0] / "b")
    KERNEL.mount(stack.lowers, stack.upper, stack.work, merged, ("index=on",))
    (merged / "a").write_bytes(b"new data")
    KERNEL.umount(merged)
    (entry,) = (stack.work / "index").iterdir()
    assert stack.found() == []
    # The copy-up of another file under the name of this one.
    os.setxattr(entry, f"{PREFIX}origin", handle(tmp_path))
    assert stack.repaired() == [("bad-index-entry", f"work/index/{entry.name}")]
    assert (stack.upper / "a").read_bytes() == b"new data"


def test_index_of_another_upper_or_lower(tmp_path: Path) -> None:
    stack = damaged(tmp_path, {}, {}, work={"index": Dir()})
    os.setxattr(stack.upper, f"{PREFIX}origin", handle(stack.lowers[0]))
    os.setxattr(stack.work / "index", f"{PREFIX}upper", handle(stack.upper, upper=True))
    (stack.work / "index" / handle(tmp_path).hex()).mkdir()
    os.setxattr(stack.work / "index" / handle(tmp_path).hex(), f"{PREFIX}upper", handle(stack.upper, upper=True))
    assert stack.found() == []
    os.setxattr(stack.upper, f"{PREFIX}origin", handle(tmp_path))
    os.setxattr(stack.work / "index", f"{PREFIX}upper", handle(tmp_path, upper=True))
    assert stack.repaired() == [("foreign-index", "work/index"), ("foreign-index", "work/index")]


def test_index_entries_that_mean_nothing(tmp_path: Path) -> None:
    sound = handle(tmp_path)
    index: Tree = {
        "index/not-hexadecimal": b"last name of its data",
        f"index/{sound.hex().upper()}": b"",
        f"index/{sound[:-1].hex()}": WHITEOUT,
        f"index/{sound.hex()}": Dir(),
    }
    stack = damaged(tmp_path, {}, work=index)
    assert stack.found() == sorted(("bad-index-entry", f"work/{name!s}") for name in index)
    stack.repaired()
    # Nothing of it is known to have another name.
    assert len(stack.found()) == len(index)


def test_index_entries_of_what_is_gone_are_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    value = handle(gone)
    unlinked = File(xattrs={f"{PREFIX}origin": value, f"{PREFIX}nlink": b"U-1"})
    stack = damaged(tmp_path, {}, work={f"index/{value.hex()}": unlinked, f"index/{value.hex()}00": Dir()})
    longer = struct.pack("<BBB", 0, 0xFB, len(value) + 1) + value[3:] + b"\0"
    directory = stack.work / "index" / longer.hex()
    (stack.work / "index" / f"{value.hex()}00").rename(directory)
    os.setxattr(directory, f"{PREFIX}upper", handle(gone, upper=True))
    gone.rmdir()
    names = sorted((value.hex(), longer.hex()))
    assert stack.repaired() == [("stray-index-entry", f"work/index/{name}") for name in names]
    assert list((stack.work / "index").iterdir()) == []
