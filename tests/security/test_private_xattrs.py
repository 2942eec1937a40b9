"""The union's own attributes are nobody's business: who could set them could leave the layers or become somebody else."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.layers import Dir, File, Tree, build
from tests.mounts import DIRECT, PYFUSE3, UNIONFS, UnionfsBackend, run_unionfs
from tests.programs import output
from unionfs.mounter.request import may_write_trusted_xattrs

EMPTY: Tree = {}

TRUSTED = [
    f"trusted.overlay.{name}"
    for name in ("opaque", "redirect", "origin", "impure", "metacopy", "nlink", "upper", "uuid", "protattr", "whiteout")
] + [f"trusted.overlay.{name}" for name in ("unionfs.origin", "unionfs.snapshots", "unionfs.made-with", "")]


def fails(number: int | tuple[int, ...], call: object, *arguments: object) -> None:
    with pytest.raises(OSError, match=r".") as failed:
        call(*arguments)  # type: ignore[operator]
    assert failed.value.errno in (number if isinstance(number, tuple) else (number,)), failed.value


@contextlib.contextmanager
def mounted(top: Path, backend: UnionfsBackend, *options: str, **xattrs: bytes) -> Iterator[Path]:
    """A union of a file ``f`` and a directory ``d``, both in the lower and in the upper, all of them with ``xattrs``."""
    tree: Tree = {"f": File(b"x", xattrs=xattrs), "d": Dir(xattrs=xattrs), "d/g": b"x"}
    for name in ("lower", "upper", "work", "merged"):
        build(top / name, tree if name in ("lower", "upper") else EMPTY)
    build(top / "lower", {"below": File(b"x", xattrs=xattrs)})
    backend.mount([top / "lower"], top / "upper", top / "work", top / "merged", options)
    try:
        yield top / "merged"
    finally:
        backend.umount(top / "merged")


@pytest.mark.skipif(not may_write_trusted_xattrs(), reason="needs root of the machine")
@pytest.mark.parametrize("backend", [DIRECT, PYFUSE3], ids=lambda backend: backend.name)
def test_root_in_the_mount_meets_none_of_the_private_attributes(tmp_path: Path, backend: UnionfsBackend) -> None:
    kept = {"trusted.overlay.nlink": b"U+0", "trusted.overlay.impure": b"n", "trusted.mine": b"1"}
    with mounted(tmp_path, backend, **kept) as merged:
        for path in (merged / "f", merged / "d", merged / "below", merged):
            for name in TRUSTED:
                fails(errno.ENODATA, os.getxattr, path, name)
                fails(errno.ENODATA, os.removexattr, path, name)
            assert [name for name in os.listxattr(path) if "overlay" in name] == []
        # What may be asked of them is something else: the same name, one level further down.
        for path in (merged / "f", merged / "d", merged / "below"):
            for name in TRUSTED[:-1]:
                os.setxattr(path, name, b"user's")
                assert os.getxattr(path, name) == b"user's"
                assert name in os.listxattr(path)
        os.setxattr(merged / "d", "trusted.overlay.opaque", b"y")
        os.setxattr(merged / "d", "trusted.overlay.redirect", b"/../..")
    for place, names in (("upper/f", TRUSTED[:-1]), ("upper/d", TRUSTED[:-1])):
        for name in names:
            assert os.getxattr(tmp_path / place, name.replace("overlay.", "overlay.overlay.")) != b""
        assert os.getxattr(tmp_path / place, "trusted.overlay.impure") == b"n"
        assert "trusted.overlay.redirect" not in os.listxattr(tmp_path / place)
    # A mount that comes after reads only what is its own: the directory is not opaque, and leads nowhere.
    DIRECT.mount([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work", tmp_path / "merged")
    try:
        assert os.listdir(tmp_path / "merged/d") == ["g"]
        assert os.getxattr(tmp_path / "merged/d", "trusted.overlay.redirect") == b"/../.."
    finally:
        DIRECT.umount(tmp_path / "merged")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_user_in_the_mount_sets_no_trusted_attribute_at_all(tmp_path: Path) -> None:
    with mounted(tmp_path, DIRECT) as merged:
        (merged / "f").chmod(0o666)
        script = f"""
            import os
            os.setgroups([]); os.setgid(65534); os.chdir({str(merged)!r}); os.setuid(65534)
            for name in ("trusted.overlay.opaque", "trusted.overlay.overlay.opaque", "trusted.x"):
                for call in (lambda: os.setxattr("f", name, b"y"), lambda: os.removexattr("f", name)):
                    try:
                        call()
                    except PermissionError:
                        continue
                    print("was let", name)
            print(os.listxattr("f"))
        """
        assert output([sys.executable, "-c", textwrap.dedent(script)]) == "[]\n"


def test_mark_of_fuse_overlayfs_is_private_where_it_counts(tmp_path: Path) -> None:
    """With userxattr it makes a directory opaque, so whoever owns a directory in the mount could hide what is below."""
    mark = "user.fuseoverlayfs.opaque"
    with mounted(tmp_path, DIRECT, "userxattr") as merged:
        for path in (merged / "d", merged / "f", merged / "below"):
            fails(errno.EPERM, os.setxattr, path, mark, b"y")
            fails(errno.ENODATA, os.getxattr, path, mark)
            fails((errno.EPERM, errno.ENODATA), os.removexattr, path, mark)
    assert mark not in os.listxattr(tmp_path / "upper/d")
    os.setxattr(tmp_path / "upper/d", mark, b"y")
    with mounted_again(tmp_path, "userxattr") as merged:
        assert os.listxattr(merged / "d") == []
        fails(errno.ENODATA, os.getxattr, merged / "d", mark)
        fails((errno.EPERM, errno.ENODATA), os.removexattr, merged / "d", mark)
        (merged / "d/g").unlink()
    # Where trusted attributes are used it means nothing, and a fuse-overlayfs in the mount may use it.
    assert os.getxattr(tmp_path / "upper/d", mark) == b"y"


def test_mark_of_fuse_overlayfs_is_an_attribute_as_any_other_elsewhere(tmp_path: Path) -> None:
    with mounted(tmp_path, DIRECT) as merged:
        os.setxattr(merged / "d", "user.fuseoverlayfs.opaque", b"y")
        assert os.getxattr(merged / "d", "user.fuseoverlayfs.opaque") == b"y"


@contextlib.contextmanager
def mounted_again(top: Path, *options: str) -> Iterator[Path]:
    DIRECT.mount([top / "lower"], top / "upper", top / "work", top / "merged", options)
    try:
        yield top / "merged"
    finally:
        DIRECT.umount(top / "merged")


def test_copy_up_does_not_carry_the_mark_into_the_upper(tmp_path: Path) -> None:
    build(tmp_path / "lower", {"d/f": b"x"})
    os.setxattr(tmp_path / "lower/d", "user.fuseoverlayfs.opaque", b"y")
    for name in ("upper", "work", "merged"):
        build(tmp_path / name, {})
    with mounted_again(tmp_path, "userxattr") as merged:
        (merged / "d").chmod(0o700)
    assert "user.fuseoverlayfs.opaque" not in os.listxattr(tmp_path / "upper/d")


def test_attributes_of_userxattr_are_hidden_and_escaped(tmp_path: Path) -> None:
    names = [f"user.overlay.{name}" for name in ("opaque", "redirect", "origin", "metacopy", "unionfs.snapshots")]
    with mounted(tmp_path, DIRECT, "userxattr") as merged:
        for name in names:
            fails(errno.ENODATA, os.getxattr, merged / "d", name)
            fails(errno.ENODATA, os.removexattr, merged / "d", name)
            os.setxattr(merged / "d", name, b"mine")
        assert sorted(os.listxattr(merged / "d")) == sorted(names)
    for name in names:
        assert os.getxattr(tmp_path / "upper/d", name.replace("overlay.", "overlay.overlay.")) == b"mine"
        assert name not in os.listxattr(tmp_path / "upper/d")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_owner_kept_in_an_attribute_is_private(tmp_path: Path) -> None:
    names = ("user.containers.override_stat", "user.fuseoverlayfs.override_stat", "security.fuseoverlayfs.override_stat")
    for each in ("lower", "upper", "work", "merged"):
        build(tmp_path / each, {"f": b"x"} if each == "lower" else {})
    merged = tmp_path / "merged"
    run_unionfs(["mount", "-l", tmp_path / "lower", "-u", tmp_path / "upper", "-o", "xattr_permissions=2", merged])
    try:
        (merged / "new").write_bytes(b"")
        os.chown(merged / "f", 1000, 1000)
        for path in (merged / "f", merged / "new", merged):
            for name in names:
                fails(errno.ENODATA, os.getxattr, path, name)
                fails(errno.EPERM, os.setxattr, path, name, b"0:0:4755")
                fails((errno.EPERM, errno.ENODATA), os.removexattr, path, name)
            assert os.listxattr(path) == []
        assert ((merged / "f").stat().st_uid, (merged / "new").stat().st_uid) == (1000, 0)
    finally:
        run_unionfs(["umount", merged])


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_owner_cannot_be_forged_in_a_layer_that_keeps_none_over_one_that_does(tmp_path: Path) -> None:
    """The upper of fuse-unionfs takes the form of its root directory at the next mount: nobody may give it one from inside."""
    for each in ("lower", "upper", "merged"):
        build(tmp_path / each, {"f": b"x"} if each == "lower" else {})
    os.setxattr(tmp_path / "lower", "user.containers.override_stat", b"0:0:755")
    merged = tmp_path / "merged"
    fuse_unionfs = UNIONFS.with_name("fuse-unionfs")
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper"
    build(tmp_path / "work", {})
    output([fuse_unionfs, "-o", f"{options},workdir={tmp_path}/work", merged])
    try:
        for path in (merged, merged / "f"):
            fails(errno.EPERM, os.setxattr, path, "user.containers.override_stat", b"0:0:4755")
            fails(errno.ENODATA, os.getxattr, path, "user.containers.override_stat")
            assert os.listxattr(path) == []
    finally:
        run_unionfs(["umount", merged])
