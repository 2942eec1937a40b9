"""What a path means in a stack of lower layers: one lookup a name, without walking anything.

The rules are those of OverlayFS (``ovl_lookup`` of fs/overlayfs/namei.c): from the top layer down, a whiteout or an opaque
directory ends it, a redirect lets the layers below be asked for another path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DOT_WHITEOUT = ".wh."
"""What names of whiteouts begin with in the AUFS format, which fuse-overlayfs writes too."""
DOT_OPAQUE = ".wh..wh..opq"

_ABSENT = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)


class Marks:
    """The marks of OverlayFS on files and directories."""

    def __init__(self, user: bool) -> None:
        """``user``: they are in the namespace ``user.overlay.``, not ``trusted.overlay.``."""
        self._prefix = "user.overlay." if user else "trusted.overlay."

    def get(self, path: str, name: str) -> bytes | None:
        """The value of a mark of the object at ``path`` (no link is followed); None if it has none."""
        try:
            return os.getxattr(path, self._prefix + name, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def is_opaque(self, directory: str) -> bool:
        """Whether nothing below is merged with a directory."""
        return self.get(directory, "opaque") == b"y" or os.path.lexists(f"{directory}/{DOT_OPAQUE}")

    def is_whiteout(self, path: str, status: os.stat_result) -> bool:
        """Whether an object hides what is below: a character device 0:0, or an empty file with the attribute."""
        if stat.S_ISCHR(status.st_mode):
            return status.st_rdev == 0
        return stat.S_ISREG(status.st_mode) and status.st_size == 0 and self.get(path, "whiteout") is not None


@dataclass(frozen=True)
class RealDirectory:
    """A directory of a lower layer; ``layer`` is its place in the stack, 0 on top."""

    layer: int
    path: str


@dataclass
class Found:
    """What a name means below: the status of the topmost object (None: there is nothing), and the directories merged there."""

    status: os.stat_result | None = None
    directories: list[RealDirectory] = field(default_factory=list)


class LowerStack:
    """The lower layers of a union."""

    def __init__(self, layers: Sequence[Path], marks: Marks) -> None:
        """``layers[0]`` is on top."""
        self._layers = [os.fspath(layer) for layer in layers]
        self._marks = marks

    @property
    def root(self) -> list[RealDirectory]:
        """The root directory, as `find` takes it."""
        return [RealDirectory(place, path) for place, path in enumerate(self._layers)]

    def find(self, parent: Sequence[RealDirectory], name: str) -> Found:
        """What ``name`` means in the merged directory ``parent``.

        Raises:
            OSError: a layer cannot be read.
        """
        found = Found()
        for directory in parent:
            path = f"{directory.path}/{name}"
            status = _lstat(path)
            if status is None:
                if os.path.lexists(f"{directory.path}/{DOT_WHITEOUT}{name}"):
                    break
                continue
            if self._marks.is_whiteout(path, status):
                break
            is_directory = stat.S_ISDIR(status.st_mode)
            if found.status is not None and not is_directory:
                break
            found.status = found.status or status
            if not is_directory:
                break
            found.directories.append(RealDirectory(directory.layer, path))
            if self._marks.is_opaque(path):
                break
            redirect = self._marks.get(path, "redirect")
            if redirect:
                found.directories += self.redirected(parent, directory.layer, os.fsdecode(redirect))
                break
        return found

    def redirected(self, parent: Sequence[RealDirectory], above: int, redirect: str) -> list[RealDirectory]:
        """What is merged with a directory of layer ``above`` (-1: the upper) whose mark ``redirect`` leads elsewhere: a path
        from the root of the layers below, or a name in the same directory."""
        if not redirect.startswith("/"):
            return self.find([directory for directory in parent if directory.layer > above], redirect).directories
        directories = [directory for directory in self.root if directory.layer > above]
        for name in redirect.split("/")[1:]:
            directories = self.find(directories, name).directories
        return directories

    def names(self, directories: Sequence[RealDirectory]) -> Iterator[str]:
        """The names in a merged directory, sorted."""
        seen: set[str] = set()
        for directory in directories:
            seen.update(name for name in os.listdir(directory.path) if not name.startswith(DOT_WHITEOUT))
        return (name for name in sorted(seen) if self.find(directories, name).status is not None)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
