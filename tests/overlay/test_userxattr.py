"""The union's own attributes in ``user.overlay.``, for those who may not write ``trusted.overlay.``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.overlay.client import Client, stack
from unionfs.overlay import Options, Union

USER = Options(userxattr=True)


def test_opaque_mark_lies_in_the_user_namespace_and_hides_below(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"d/f": b"lower"})
    client = Client(Union(layers, USER))
    client.unlink("d/f")
    client.rmdir("d")
    client.mkdir("d")
    client.union.close()
    assert os.getxattr(tmp_path / "upper/d", "user.overlay.opaque") == b"y"
    assert "trusted.overlay.opaque" not in os.listxattr(tmp_path / "upper/d")
    again = Client(Union(layers, USER))
    assert again.names("d") == []
    again.union.close()


def test_mark_of_fuse_overlayfs_is_read(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"d/top": b""}, {"d/below": b""})
    os.setxattr(tmp_path / "lower0/d", "user.fuseoverlayfs.opaque", b"y")
    client = Client(Union(layers, USER))
    assert client.names("d") == [b"top"]
    client.union.close()


def test_directory_with_lower_part_is_not_renamed_and_no_redirect_followed(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"d/f": b"lower", "e/x": b""}, {"victim/g": b""})
    os.setxattr(tmp_path / "lower0/e", "user.overlay.redirect", b"/victim")
    client = Client(Union(layers, USER))
    with pytest.raises(OSError, match="cross-device"):
        client.rename("d", "moved")
    assert client.names("e") == [b"x"]
    client.union.close()


def test_own_names_are_hidden_and_escaped_the_other_namespace_is_not(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"f": b""})
    client = Client(Union(layers, USER))
    node = client.node("f")
    client.call(client.union.setxattr, node, b"user.overlay.mine", b"1", 0)
    client.call(client.union.setxattr, node, b"trusted.overlay.theirs", b"2", 0)
    client.union.close()
    assert os.getxattr(tmp_path / "upper/f", "user.overlay.overlay.mine") == b"1"
    assert os.getxattr(tmp_path / "upper/f", "trusted.overlay.theirs") == b"2"
