"""Paths deeper than PATH_MAX."""

from __future__ import annotations

import errno
import os

from tests.behaviour.syscalls import fails_with
from tests.behaviour.union import Mounted

from . import deep
from .mounted import check, mounting
from .scale import LEVELS


def test_chain_is_made_read_renamed_at_the_top_and_removed(unmounted: Mounted) -> None:
    with mounting(unmounted) as top:
        deep.make(top, LEVELS)
        os.rename(top / os.fsdecode(deep.NAME), top / "renamed")
        directory = deep.bottom(top, LEVELS, b"renamed")
        assert deep.read(directory, "f") == b"at the bottom"
        os.unlink("f", dir_fd=directory)
        os.close(directory)
        deep.remove(top, LEVELS, b"renamed")
        assert os.listdir(top) == []
    check(unmounted)


def test_file_at_the_bottom_of_a_lower_is_copied_up(unmounted: Mounted) -> None:
    deep.make(unmounted.lowers[0], LEVELS)
    with mounting(unmounted) as top:
        directory = deep.bottom(top, LEVELS)
        with open(os.open("f", os.O_WRONLY | os.O_APPEND, dir_fd=directory), "wb") as file:
            file.write(b", changed")
        assert deep.read(directory, "f") == b"at the bottom, changed"
        os.close(directory)
    in_upper = deep.bottom(unmounted.upper, LEVELS)
    assert deep.read(in_upper, "f") == b"at the bottom, changed"
    os.close(in_upper)
    in_lower = deep.bottom(unmounted.lowers[0], LEVELS)
    assert deep.read(in_lower, "f") == b"at the bottom"
    os.close(in_lower)
    check(unmounted)


def test_lower_chain_is_removed_and_stays_so(unmounted: Mounted) -> None:
    deep.make(unmounted.lowers[0], LEVELS)
    with mounting(unmounted) as top:
        directory = deep.bottom(top, LEVELS)
        os.unlink("f", dir_fd=directory)
        os.close(directory)
        deep.remove(top, LEVELS)
    with mounting(unmounted) as top:
        assert os.listdir(top) == []
    check(unmounted)


def test_directory_that_no_redirect_can_name_is_not_renamed(unmounted: Mounted) -> None:
    """Redirects end at 256 bytes (fs/overlayfs/overlayfs.h, OVL_REDIRECT_MAX): EXDEV, and mv(1) copies then."""
    deep.make(unmounted.lowers[0], LEVELS)
    with mounting(unmounted, "redirect_dir=on"):
        directory = deep.bottom(unmounted.merged, LEVELS - 1)
        goal = os.open(unmounted.merged, os.O_RDONLY)
        with fails_with(errno.EXDEV):
            os.rename(deep.NAME, "moved", src_dir_fd=directory, dst_dir_fd=goal)
        os.close(directory)
        os.close(goal)
    with mounting(unmounted, "redirect_dir=on"):
        directory = deep.bottom(unmounted.merged, LEVELS)
        assert deep.read(directory, "f") == b"at the bottom"
        os.close(directory)
