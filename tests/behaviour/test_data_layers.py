"""Data-only lower layers: merged with nothing, but they hold data of files whose metadata is in a lower layer."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.mounts import COMMAND_TIMEOUT, DIRECT, KERNEL, PYFUSE3
from unionfs.mounter.checks import check
from unionfs.mounter.errors import MounterError
from unionfs.mounter.options import parse_options
from unionfs.mounter.request import build_request

from .layers import Dir, File, Symlink, Tree
from .syscalls import fails_with, opened
from .union import Union

layers = pytest.mark.layers
metacopy = pytest.mark.mount_options("redirect_dir=on", "metacopy=on")

KIB = 1024
FIRST = bytes(range(256)) * 20
SECOND = b"second" * 1000


def of_data(path: str, size: int, prefix: str = "trusted.overlay.", **more: bytes) -> File:
    """A file that has no data, but says that it is at ``path`` in a layer below."""
    return File(size=size, xattrs={f"{prefix}metacopy": b"", f"{prefix}redirect": path.encode(), **more})


LOWER: Tree = {
    "d/f": of_data("/sub/first", len(FIRST), **{"user.x": b"1"}),
    "d/g": of_data("/sub/second", len(SECOND)),
    "plain": b"plain",
    "dir": Dir(mode=0o700),
}
DATA: tuple[Tree, Tree] = (
    {"sub/first": File(FIRST, mode=0o600, uid=7), "only-data": b"", "d/only-data": b"", "dir/only-data": b""},
    {"sub/first": b"hidden", "sub/second": SECOND},
)


@layers(LOWER, data=DATA)
def test_data_is_read_and_nothing_else_shows(own_union: Union) -> None:
    merged = own_union.merged
    assert (own_union.names(), own_union.names("d"), own_union.names("dir")) == (["d", "dir", "plain"], ["f", "g"], [])
    assert (merged / "d/f").read_bytes() == FIRST
    assert (merged / "d/g").read_bytes() == SECOND
    assert (merged / "plain").read_bytes() == b"plain"
    status, real = (merged / "d/f").stat(), (own_union.lower / "d/f").stat()
    assert (status.st_uid, status.st_mode, status.st_mtime_ns, status.st_ino) == (0, real.st_mode, real.st_mtime_ns, real.st_ino)
    assert os.listxattr(merged / "d/f") == ["user.x"]
    assert not (merged / "sub").exists()


@layers(LOWER, data=DATA, read_only=True)
def test_one_lower_and_data_make_a_read_only_union(own_union: Union) -> None:
    assert (own_union.merged / "d/f").read_bytes() == FIRST
    with fails_with(errno.EROFS):
        (own_union.merged / "d/f").chmod(0o600)


ASTRAY = {
    "missing": ("/none", errno.ENOENT),
    "directory": ("/sub", errno.ENOENT),
    "link": ("/link", errno.ENOENT),
    "through-link": ("/sublink/first", errno.ELOOP),
    "through-file": ("/sub/first/x", errno.ENOTDIR),
}


@layers(
    {name: of_data(path, 10) for name, (path, _) in ASTRAY.items()},
    data=[{"sub/first": FIRST, "link": Symlink("sub/first"), "sublink": Symlink("sub")}],
)
def test_file_whose_data_is_missing_shows_but_cannot_be_opened(own_union: Union) -> None:
    assert own_union.names() == sorted(ASTRAY)
    for name, (_, number) in ASTRAY.items():
        path = own_union.merged / name
        assert path.stat().st_size == 10
        if own_union.deviates("open-without-data", kernel=True, ours=False):
            with fails_with(number):
                path.open("rb")
        else:
            with fails_with(number):
                path.read_bytes()
        with fails_with(number):
            path.chmod(0o600)
        path.unlink()
        assert own_union.has_whiteout(name)


@layers({"sparse": of_data("/sparse", 64 * KIB)}, data=[{"sparse": File(extents={0: b"x"}, size=64 * KIB)}])
def test_blocks_are_a_guess_until_the_data_is_opened(own_union: Union) -> None:
    path = own_union.merged / "sparse"
    assert path.stat().st_blocks == 64 * KIB // 512
    assert path.read_bytes() == b"x" + bytes(64 * KIB - 1)
    if own_union.backend is not PYFUSE3:  # which tells the kernel a moment later
        assert path.stat().st_blocks == (own_union.lowers[1] / "sparse").stat().st_blocks


@layers(LOWER, data=DATA)
def test_change_of_metadata_copies_the_data_up(own_union: Union) -> None:
    (own_union.merged / "d/f").chmod(0o640)
    os.setxattr(own_union.merged / "d/g", "user.y", b"2")
    for name, data in {"d/f": FIRST, "d/g": SECOND}.items():
        assert (own_union.upper / name).read_bytes() == data
        assert "trusted.overlay.metacopy" not in os.listxattr(own_union.upper / name)
    own_union.remount()
    assert (own_union.merged / "d/f").read_bytes() == FIRST


@layers(LOWER, data=DATA)
def test_first_write_copies_the_data_up(own_union: Union) -> None:
    path = own_union.merged / "d/f"
    before = path.stat().st_ino
    with opened(path, os.O_RDONLY) as reader:
        assert os.pread(reader, 4, 0) == FIRST[:4]
        with opened(path, os.O_RDWR) as fd:
            os.pwrite(fd, b"written", 10)
    expected = FIRST[:10] + b"written" + FIRST[17:]
    assert path.read_bytes() == (own_union.upper / "d/f").read_bytes() == expected
    assert path.stat().st_ino == before
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"more")
    with opened(own_union.merged / "d/g", os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, b"short")
    own_union.remount()
    assert path.read_bytes() == expected + b"more"
    assert (own_union.merged / "d/g").read_bytes() == b"short"


@layers(LOWER, data=DATA)
@metacopy
def test_metadata_copy_leaves_the_data_where_it_is_and_all_backends_find_it(own_union: Union) -> None:
    merged, upper = own_union.merged, own_union.upper
    before = (merged / "d/f").stat()
    (merged / "d/f").chmod(0o640)
    (merged / "d/g").rename(merged / "dir/moved")
    os.link(merged / "d/f", merged / "linked")
    (merged / "d").rename(merged / "renamed")
    assert "trusted.overlay.metacopy" in os.listxattr(upper / "renamed/f")
    after = (merged / "renamed/f").stat()
    assert (after.st_ino, after.st_size, after.st_blocks) == (before.st_ino, before.st_size, before.st_blocks)
    for backend in (KERNEL, DIRECT):
        own_union.remount(backend)
        for name, data in {"renamed/f": FIRST, "linked": FIRST, "dir/moved": SECOND}.items():
            assert (merged / name).read_bytes() == data, (name, backend.name)
        assert (merged / "linked").stat().st_mode & 0o777 == 0o640
    (merged / "dir/moved").write_bytes(b"new")
    with opened(merged / "linked", os.O_RDWR) as fd:
        os.pwrite(fd, b"new", 0)
    assert (merged / "renamed/f").read_bytes() == b"new" + FIRST[3:]


CHAIN: tuple[Tree, ...] = (
    {"a": of_data("/deep/b", len(FIRST)), "regular": of_data("/deep/r", 1), "stops": of_data("/deep", len(FIRST))},
    {"deep/b": of_data("/c", len(FIRST)), "deep/r": b"r"},
    {"c": of_data("/sub/first", len(FIRST))},
)


@layers(CHAIN, data=[{"sub/first": FIRST, "deep": FIRST}])
@metacopy
def test_layers_that_are_merged_come_first(own_union: Union) -> None:
    assert (own_union.merged / "a").read_bytes() == FIRST
    assert (own_union.merged / "regular").read_bytes() == b"r"
    # What is no regular file ends the search in the layers that are merged, but not in the others.
    assert (own_union.merged / "stops").read_bytes() == FIRST


@layers(CHAIN, data=[{"sub/first": FIRST}])
def test_copies_above_the_bottom_need_no_option(own_union: Union) -> None:
    assert (own_union.merged / "c").read_bytes() == FIRST
    if own_union.deviates("metacopy-without-option", kernel=True, ours=False):
        with fails_with(errno.EPERM):
            (own_union.merged / "a").stat()
    else:
        assert (own_union.merged / "a").read_bytes() == FIRST


@layers(
    {
        "relative": of_data("first", 10),
        "same-name": File(size=10, xattrs={"trusted.overlay.metacopy": b""}),
        "sound": of_data("/first", len(FIRST)),
        "d/lower": b"",
    },
    upper={"d": Dir(xattrs={"trusted.overlay.impure": b"y"}), "d/upper": of_data("/first", len(FIRST)), "d/sound": FIRST},
    data=[{"first": FIRST, "same-name": FIRST}],
)
@metacopy
def test_only_a_path_in_a_lower_layer_leads_to_data_only_layers(own_union: Union) -> None:
    for _ in range(2):
        for name in ("relative", "same-name", "d/upper"):
            with fails_with(errno.EIO):
                (own_union.merged / name).stat()
        # Such a name is no reason not to list the others.
        assert (own_union.names(), own_union.names("d")) == (["d", "relative", "same-name", "sound"], ["lower", "sound"])
        assert (own_union.merged / "sound").read_bytes() == (own_union.merged / "d/sound").read_bytes() == FIRST


USER = "user.overlay."


@layers(
    [{"above": of_data("/first", len(FIRST), USER)}, {"f": of_data("/first", len(FIRST), USER)}],
    upper={"d": Dir(xattrs={"user.overlay.impure": b"y"}), "d/upper": of_data("/f", len(FIRST), USER)},
    data=[{"first": FIRST}],
)
@pytest.mark.mount_options("userxattr")
def test_userxattr_follows_only_what_the_bottom_layer_says(own_union: Union) -> None:
    assert (own_union.merged / "f").read_bytes() == FIRST
    for name in ("above", "d/upper"):
        with fails_with(errno.EPERM):
            (own_union.merged / name).stat()


def test_what_lowerdir_may_not_say(tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    for name in ("l", "d", "m", "merged"):
        (tmp_path / name).mkdir()
    for value in (":l", "l:", "::d", "l::", "l:::d", "l::d:", "l::d:m", "l::l", "l::d::d", "l::none"):
        option = "lowerdir=" + re.sub("[a-z]+", lambda name: str(tmp_path / name[0]), value)
        command = ["mount", "-t", "overlay", "overlay", "-o", option, str(merged)]
        assert subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_TIMEOUT).returncode, value
        with pytest.raises(MounterError):
            check(build_request(parse_options([option]), merged))


@metacopy
@layers({"f": File(b"data", mtime_ns=10**18)})
def test_time_of_a_file_stays_when_its_data_follows_its_metadata(own_union: Union) -> None:
    path = own_union.merged / "f"
    path.chmod(0o600)
    assert path.stat().st_mtime_ns == 10**18
    with opened(path, os.O_WRONLY):
        pass
    stayed = path.stat().st_mtime_ns == 10**18
    assert stayed == own_union.deviates("metacopy-mtime", kernel=False, ours=True)
