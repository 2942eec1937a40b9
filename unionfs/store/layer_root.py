"""The directory that an archive is unpacked into: every access by descriptor, none of them through a symbolic link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from unionfs.linux.openat2 import open_beneath
from unionfs.store import overlay_format
from unionfs.store.errors import RefusedEntryError

_IMPLIED_MODE = 0o755  # of directories that an archive has entries in but none for, as docker and containerd make them
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_DEEPEST = 256
"""Directories in each other.  Nobody has as many; what removes and copies trees is recursive."""


class LayerRoot:
    """A layer's directory while it is made."""

    def __init__(self, directory: Path, thing: str, replaced: Path) -> None:
        """``thing``: what errors call the archive; ``replaced``: where `replace` puts what it takes away."""
        self.fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._thing = thing
        self._replaced = replaced
        self._count = 0
        self._parent = (b"", self.fd)

    def close(self) -> None:
        """Give the descriptors back."""
        self._drop_parent()
        os.close(self.fd)

    def parts(self, name: bytes) -> tuple[bytes, bytes]:
        """A name of the archive as the path of its directory and its last component, both without ``.``; two empty ones for the
        root.

        Raises:
            RefusedEntryError: it is absolute, leads out of the layer, or no file can be called so.
        """
        if name.startswith(b"/"):
            raise self.refusal(name, "an absolute path")
        components = [component for component in name.split(b"/") if component not in (b"", b".")]
        if b".." in components:
            raise self.refusal(name, "leads out of the layer by ..")
        if b"\0" in name or any(len(component) > 255 for component in components):
            raise self.refusal(name, "no name of a file")
        if len(components) > _DEEPEST:
            raise self.refusal(name, f"deeper than {_DEEPEST} directories")
        return b"/".join(components[:-1]), components[-1] if components else b""

    def parent(self, directory: bytes, name: bytes) -> int:
        """A descriptor of ``directory``, made if it is not there; good until the next call.  ``name``: the entry, for errors.

        Raises:
            RefusedEntryError: something on the way is no directory.
        """
        known, fd = self._parent
        if known == directory:
            return fd
        self._drop_parent()
        fd = self._open(directory, name) if directory else self.fd
        self._parent = (directory, fd)
        return fd

    def forget_parent(self) -> None:
        """The directory last asked for may go away."""
        self._drop_parent()

    def _drop_parent(self) -> None:
        _, fd = self._parent
        self._parent = (b"", self.fd)
        if fd != self.fd:
            os.close(fd)

    def _open(self, directory: bytes, name: bytes) -> int:
        try:
            return open_beneath(self.fd, directory, _DIRECTORY)
        except FileNotFoundError:
            self._make(directory, name)
        except OSError as error:
            raise self._on_the_way(name, error) from error
        return open_beneath(self.fd, directory, _DIRECTORY)

    def _make(self, directory: bytes, name: bytes) -> None:
        above, _, last = directory.rpartition(b"/")
        fd = os.dup(self.fd) if not above else self._open(above, name)
        try:
            os.mkdir(last, _IMPLIED_MODE, dir_fd=fd)
            os.chmod(last, _IMPLIED_MODE, dir_fd=fd)
        except OSError as error:
            raise self._on_the_way(name, error) from error
        finally:
            os.close(fd)

    def _on_the_way(self, name: bytes, error: OSError) -> OSError | RefusedEntryError:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.EEXIST):
            return self.refusal(name, "below something that is no directory: an earlier entry made it a link or a file")
        return error

    def open_directory(self, path: bytes) -> int:
        """A descriptor of a directory that is there, for the caller to close.

        Raises:
            OSError: ENOENT, ENOTDIR, ELOOP: there is none.
        """
        return open_beneath(self.fd, path or b".", _DIRECTORY)

    def lstat(self, parent: int, last: bytes) -> os.stat_result | None:
        """What has that name now."""
        try:
            return os.stat(last, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def replace(self, parent: int, last: bytes) -> bytes:
        """Take away what has that name; what it is called now below the directory of replaced files, where its content stays."""
        if not self._count:
            self._replaced.mkdir(mode=0o700)
        self._count += 1
        kept_as = b"%d" % self._count
        os.rename(last, os.path.join(os.fsencode(self._replaced), kept_as), src_dir_fd=parent)
        return kept_as

    def drop_whiteout(self, parent: int, last: bytes) -> None:
        """Remove one."""
        os.unlink(last, dir_fd=parent)

    def uncover(self, parent: int, last: bytes) -> None:
        """Put an opaque directory in place of a whiteout.  Raises OSError: as mkdir(2), setxattr(2)."""
        os.unlink(last, dir_fd=parent)
        os.mkdir(last, _IMPLIED_MODE, dir_fd=parent)
        fd = open_beneath(parent, last, _DIRECTORY)
        try:
            os.chmod(fd, _IMPLIED_MODE)
            overlay_format.make_opaque(fd)
        finally:
            os.close(fd)

    def refusal(self, name: bytes, problem: str) -> RefusedEntryError:
        """The error for an entry of that name."""
        return RefusedEntryError(
            f"{self._thing}: {os.fsdecode(name)!r}", problem, "get the archive from somebody you trust, or make it anew"
        )


def is_directory(st: os.stat_result | None) -> bool:
    """Whether there is something, and it is a directory."""
    return st is not None and stat.S_ISDIR(st.st_mode)
