"""Inode numbers over remounts, by the kernel's own `origin` attribute."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from tests.overlay.client import Client, stack
from unionfs.filesystem import ROOT_ID
from unionfs.overlay import Stack, Union, open_lower
from unionfs.overlay.origin import Origins


def _mounted(layers: Stack) -> Client:
    return Client(Union(layers))


def test_ino_stays_over_copy_up_rename_and_remount(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"d/f": b"lower", "d/link": b""}, {"e": b"x"})
    first = _mounted(layers)
    ino = first.attr("d/f").ino
    directory = first.attr("d").ino
    first.write("d/f", b"UPPER")
    first.rename("d/f", "moved")
    assert first.attr("moved").ino == ino
    first.union.close()
    second = _mounted(layers)
    assert second.attr("moved").ino == ino
    assert second.attr("d").ino == directory
    assert {row.name: row.ino for row in second.union.readdir(ROOT_ID, 0)}[b"moved"] == ino
    second.union.close()
    assert os.getxattr(tmp_path / "upper", "trusted.overlay.impure") == b"y"


def test_listing_of_unknown_copied_up_files_tells_the_origins_number(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"f": b"lower"})
    first = _mounted(layers)
    ino = first.attr("f").ino
    first.write("f", b"UPPER")
    first.union.close()
    second = _mounted(layers)
    assert {row.name: row.ino for row in second.union.readdir(ROOT_ID, 0)}[b"f"] == ino
    assert second.union.statistics()["inodes"] == 1
    second.union.close()


def test_broken_origin_is_no_origin(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"f": b"lower"})
    first = _mounted(layers)
    first.write("f", b"UPPER")
    first.union.close()
    for value in (b"", b"\x00\xfb", b"\x00\xfb\xff\x00\x01" + bytes(16) + b"12345678", os.urandom(40)):
        os.setxattr(tmp_path / "upper/f", "trusted.overlay.origin", value)
        second = _mounted(layers)
        assert second.attr("f").ino == (tmp_path / "upper/f").stat().st_ino
        assert second.read("f") == b"UPPER"
        second.union.close()


def test_name_of_a_lower_hard_link_gets_a_number_of_its_own(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"a": b"lower"})
    os.link(tmp_path / "lower0/a", tmp_path / "lower0/b")
    client = _mounted(layers)
    client.write("a", b"UPPER")
    assert client.attr("a").ino != client.attr("b").ino
    client.union.close()
    again = _mounted(layers)
    assert again.attr("a").ino == (tmp_path / "upper/a").stat().st_ino
    again.union.close()


def test_number_that_is_just_given_to_a_new_file_tells_nothing_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").touch()
    layer = open_lower(0, tmp_path)
    origins = Origins([layer])
    value = origins.of(layer.root.fd, b"f", layer.device)
    errors = iter((errno.ENOMEM, errno.ENOMEM, errno.ESTALE))

    def open_by_handle_at(*_arguments: object) -> int:
        ctypes.set_errno(next(errors))
        return -1

    monkeypatch.setattr("unionfs.linux.handles._open_by_handle_at", open_by_handle_at)
    assert origins.find(value) is None
    assert list(errors) == []
    layer.close()
