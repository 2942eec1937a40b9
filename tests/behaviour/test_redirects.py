"""Redirects in lower layers, and opaque directories on their way.  Without rights over the machine they are not followed."""

from __future__ import annotations

import pytest

from tests.mounts import OVERLAY_XATTRS

from .layers import OPAQUE, Dir
from .union import Union

layers = pytest.mark.layers
follow_redirects = pytest.mark.mount_options("redirect_dir=follow")


def redirected(to: str, *, opaque: bool = False) -> Dir:
    return Dir(xattrs={OVERLAY_XATTRS + "redirect": to.encode()} | (OPAQUE.xattrs if opaque else {}))


@layers([{"top": redirected("/d/sub"), "top/1": b""}, {"d": OPAQUE, "d/sub": redirected("/old"), "d/sub/2": b""}, {"old/3": b""}])
@follow_redirects
def test_redirect_from_the_root_leads_out_of_an_opaque_directory(own_union: Union) -> None:
    """``ovl_check_redirect`` of fs/overlayfs/namei.c resets what an opaque directory on the way has ended."""
    assert own_union.names("top") == ["1", "2", "3"]


@layers([{"top": redirected("/d/sub"), "top/1": b""}, {"d": OPAQUE, "d/sub": redirected("o"), "d/sub/2": b""}, {"d/o/3": b""}])
@follow_redirects
def test_redirect_in_the_same_parent_stays_in_an_opaque_directory(own_union: Union) -> None:
    assert own_union.names("top") == ["1", "2"]


@layers([{"top": redirected("/d/sub"), "top/1": b""}, {"d/sub": redirected("/old", opaque=True), "d/sub/2": b""}, {"old/3": b""}])
@follow_redirects
def test_redirect_of_an_opaque_directory_leads_nowhere(own_union: Union) -> None:
    assert own_union.names("top") == ["1", "2"]
