"""Chains of directories deeper than PATH_MAX: reached by one openat(2) a level."""

from __future__ import annotations

import os
from pathlib import Path

NAME = b"level-0123"
"""10 bytes, 11 with the slash."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def make(top: Path, levels: int) -> None:
    """Make ``levels`` directories in ``top``, one in the other, with a file ``f`` in the last."""
    directory = os.open(top, _DIRECTORY)
    for _ in range(levels):
        os.mkdir(NAME, dir_fd=directory)
        directory = _step(directory, NAME)
    file = os.open("f", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=directory)
    os.write(file, b"at the bottom")
    os.close(file)
    os.close(directory)


def bottom(top: Path, levels: int, first: bytes = NAME) -> int:
    """A descriptor of the last directory, the caller's to close; ``first``: what the uppermost is named."""
    directory = os.open(top, _DIRECTORY)
    for level in range(levels):
        directory = _step(directory, NAME if level else first)
    return directory


def read(directory: int, name: str) -> bytes:
    """The bytes of a small file."""
    with open(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as file:
        return file.read()


def remove(top: Path, levels: int, first: bytes = NAME) -> None:
    """Remove the chain, from below; its last directory is empty.  By ``..``: as many descriptors as levels are not allowed."""
    directory = bottom(top, levels, first)
    for level in reversed(range(levels)):
        directory = _step(directory, b"..")
        os.rmdir(NAME if level else first, dir_fd=directory)
    os.close(directory)


def _step(directory: int, name: bytes) -> int:
    deeper = os.open(name, _DIRECTORY, dir_fd=directory)
    os.close(directory)
    return deeper
