"""A directory becomes a tar: the same bytes for the same content, and the same content from the bytes."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.behaviour.tree import Snapshot
from tests.store.archive.conftest import Bench
from tests.store.snapshots.made_layers import base, opaque, patch, whiteout
from tests.store.tars import joined
from unionfs.store.errors import StoreError
from unionfs.store.pack import pack_layer, pack_tree


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


@pytest.mark.parametrize("build", [base, patch])
def test_packed_layer_unpacks_to_the_same_tree(tmp_path: Path, build: Callable[[Path], None]) -> None:
    (tmp_path / "upper").mkdir()
    build(tmp_path / "upper")
    bench = Bench(tmp_path / "layer")
    bench.unpack_bytes(joined(pack_layer(tmp_path / "upper")))
    assert Snapshot.of(bench.diff).records.keys() == Snapshot.of(tmp_path / "upper").records.keys()
    assert joined(pack_layer(bench.diff)) == joined(pack_layer(tmp_path / "upper"))


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        base(tmp_path / name)
        os.utime(tmp_path / name, ns=(1, 1))
    assert joined(pack_layer(tmp_path / "one")) == joined(pack_layer(tmp_path / "two"))


def test_whiteouts_of_both_forms_and_opaque_marks_are_as_oci_has_them(tmp_path: Path) -> None:
    opaque(tmp_path)
    whiteout(tmp_path / "gone")
    (tmp_path / "too").touch()
    os.setxattr(tmp_path / "too", "trusted.overlay.whiteout", b"y")
    assert names(joined(pack_layer(tmp_path))) == [".", ".wh..wh..opq", ".wh.gone", ".wh.too"]


def test_marks_of_the_union_are_left_out_and_escaped_ones_are_shown(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", "trusted.overlay.origin", b"\0")
    os.setxattr(tmp_path / "f", "trusted.overlay.overlay.origin", b"inner")
    with tarfile.open(fileobj=io.BytesIO(joined(pack_layer(tmp_path)))) as tar:
        assert tar.getmember("f").pax_headers.keys() - {"mtime"} == {"SCHILY.xattr.trusted.overlay.origin"}


@pytest.mark.parametrize("mark", ["redirect", "metacopy"])
def test_upper_that_depends_on_what_is_below_is_refused(tmp_path: Path, mark: str) -> None:
    (tmp_path / "moved").mkdir()
    os.setxattr(tmp_path / "moved", f"trusted.overlay.{mark}", b"/old")
    with pytest.raises(StoreError, match=r"moved: is a part of the layers below it.*redirect_dir=off"):
        joined(pack_layer(tmp_path))


def test_root_filesystem_keeps_its_devices_and_leaves_out_sockets(tmp_path: Path) -> None:
    os.mknod(tmp_path / "tty", stat.S_IFCHR | 0o620, os.makedev(4, 1))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "socket"))
    assert names(joined(pack_tree(tmp_path))) == [".", "tty"]


def test_gnu_tar_reads_what_is_packed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "out").mkdir()
    base(tmp_path / "tree")
    command = ["tar", "-x", "--xattrs", "--xattrs-include=*", "-p", "--numeric-owner", "-C", tmp_path / "out"]
    subprocess.run(command, input=joined(pack_tree(tmp_path / "tree")), check=True)
    assert joined(pack_tree(tmp_path / "out")) == joined(pack_tree(tmp_path / "tree"))
