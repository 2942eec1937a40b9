"""The work directory: where things of the upper layer are made ready, out of sight, before one rename installs them.

The real staging directory is ``work`` inside the directory the user named, as in OverlayFS (which refuses a mount if it cannot
make or empty it).  Whatever a crash leaves there shows nowhere and is removed at the next mount.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from unionfs.linux.links import fd_path, link_fd
from unionfs.overlay import incompat

if TYPE_CHECKING:
    from unionfs.overlay.size_limit import SizeLimit

_log = logging.getLogger("unionfs.overlay")

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE_FILE = os.O_RDWR | os.O_CLOEXEC
_DEFAULT_ACL = "system.posix_acl_default"


class WorkDir:
    """The staging directory of one writable union.  All names it hands out are its own and new."""

    def __init__(self, path: Path) -> None:
        """``path``: the directory the user named; on the filesystem of the upper, and empty or left over from an earlier
        mount.

        Raises:
            OSError: EINVAL: a mark in it forbids a mount (`incompat`); or it cannot be made, or emptied.
        """
        if marks := incompat.features(path / "work"):
            raise OSError(errno.EINVAL, f"the work directory forbids a mount ({', '.join(marks)})", str(path))
        base_fd = os.open(path, _OPEN_DIR & ~os.O_NOFOLLOW)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(b"work", 0o700, dir_fd=base_fd)
            self.fd = os.open(b"work", _OPEN_DIR, dir_fd=base_fd)
        finally:
            os.close(base_fd)
        self.limit: SizeLimit | None = None
        """What counts the bytes of all that is installed from here."""
        self._next = 0
        self._left: list[bytes] = []
        self._has_tmpfile = True
        self._empty()

    def close(self) -> None:
        """Empty it, but for marks, and close it.  Best effort: what is left is removed at the next mount."""
        if self.fd >= 0:
            try:
                self._empty()
            except OSError as error:
                _log.warning("could not empty the work directory: %s", error)
            os.close(self.fd)
            self.fd = -1

    def new_name(self) -> bytes:
        """A name nothing has here."""
        left, self._left = self._left, []
        for name in left:
            self.remove(name)
        self._next += 1
        return b"#%x" % self._next

    # -- files ------------------------------------------------------------------------------------------------------

    def make_file(self) -> StagedFile:
        """An empty regular file (mode 0600), open for reading and writing; without a name if the filesystem can."""
        if self._has_tmpfile:
            try:
                fd = os.open(b".", _MAKE_FILE | os.O_TMPFILE, 0o600, dir_fd=self.fd)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                    raise
                self._has_tmpfile = False
            else:
                return self.stage(fd, None)
        name = self.new_name()
        return self.stage(os.open(name, _MAKE_FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self.fd), name)

    def make_directory(self) -> StagedFile:
        """An empty directory (mode 0700), open for reading."""
        name = self.new_name()
        os.mkdir(name, 0o700, dir_fd=self.fd)
        try:
            try:
                fd = os.open(name, _OPEN_DIR, dir_fd=self.fd)
            except PermissionError:  # the umask is that of whoever asked last
                os.chmod(name, 0o700, dir_fd=self.fd)
                fd = os.open(name, _OPEN_DIR, dir_fd=self.fd)
        except OSError:
            self.remove(name)
            raise
        return self.stage(fd, name)

    def stage(self, fd: int, name: bytes | None) -> StagedFile:
        """What is open as ``fd``, and has that name here, as one in the making, which owns both; after an error too."""
        try:
            return StagedFile(self, fd, name)
        except OSError:
            os.close(fd)
            if name is not None:
                self.remove(name)
            raise

    # -- installing and removing ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def staged(self, name: bytes) -> Iterator[bytes]:
        """Removes what still has the name ``name`` here at the end: after an error the unfinished thing, else what was exchanged
        for it."""
        try:
            yield name
        finally:
            self.remove(name)

    def remove(self, name: bytes) -> None:
        """Remove ``name`` and all below it, if it is there.  Best effort: what is left is removed when the next thing is staged,
        or at the next mount."""
        try:
            try:
                os.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                return
            except (IsADirectoryError, PermissionError):
                remove_tree(self.fd, name)
        except OSError as error:
            _log.warning("could not remove %r from the work directory: %s", name, error)
            self._left.append(name)

    def mark_volatile(self) -> None:
        """See `incompat.mark_volatile`."""
        incompat.mark_volatile(self.fd)

    def _empty(self) -> None:
        # By the path in /proc: on Btrfs a descriptor lists only what was there when it was opened.
        for name in os.listdir(fd_path(self.fd)):
            if name != os.fsencode(incompat.INCOMPAT):
                remove_tree(self.fd, name)

    # -- inheritance ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def cradle(self, parent_fd: int) -> Iterator[int]:
        """A directory (descriptor) to make something in that shall then be moved into the upper directory ``parent_fd``.

        It hands down what that one would: its group and S_ISGID, and its default ACL.  The filesystem applies them where an
        object is made, not where it is moved to.
        """
        parent = os.fstat(parent_fd)
        acl = _default_acl(parent_fd)
        if not parent.st_mode & stat.S_ISGID and acl is None:
            yield self.fd
            return
        name = self.new_name()
        os.mkdir(name, 0o700, dir_fd=self.fd)
        with self.staged(name):
            fd = os.open(name, _OPEN_DIR, dir_fd=self.fd)
            try:
                if acl is not None:
                    os.setxattr(fd, _DEFAULT_ACL, acl)
                os.fchown(fd, -1, parent.st_gid)
                os.fchmod(fd, 0o700 | parent.st_mode & stat.S_ISGID)
                yield fd
            finally:
                os.close(fd)


def remove_contents(dir_fd: int) -> None:
    """Remove all that is in a directory."""
    for name in os.listdir(dir_fd):
        remove_tree(dir_fd, os.fsencode(name))


def remove_tree(dir_fd: int, name: bytes) -> None:
    """Remove what has a name in a directory, and all below it."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=dir_fd)
        return
    fd = os.open(name, _OPEN_DIR, dir_fd=dir_fd)
    try:
        remove_contents(fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def _default_acl(fd: int) -> bytes | None:
    try:
        return os.getxattr(b"/proc/self/fd/%d" % fd, _DEFAULT_ACL)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


class StagedFile:
    """A regular file or a directory in the making.  Whoever has it calls `install`, which leaves ``fd`` open, or `drop`.

    Attributes:
        fd: it, open for writing if it is a file.
        made: its attributes at the beginning: whose it is before anybody has set that, and which inode it will be.
    """

    __slots__ = ("_name", "_reserved", "_work", "fd", "made")

    def __init__(self, work: WorkDir, fd: int, name: bytes | None) -> None:
        self._work = work
        self._name = name
        self._reserved = 0
        self.fd = fd
        self.made = os.fstat(fd)

    def reserve(self, size: int) -> None:
        """It is about to hold ``size`` bytes.  ENOSPC where the layer has a size limit that leaves no room for them."""
        limit = self._work.limit
        if limit is not None:
            limit.reserve(size)
            self._reserved = size

    def install(self, dir_fd: int, name: bytes) -> None:
        """Give it its name in an upper directory, where nothing has that.  ENOSPC as `reserve`."""
        self.account()
        try:
            if self._name is None:
                link_fd(self.fd, dir_fd, name)
            else:
                os.rename(self._name, name, src_dir_fd=self._work.fd, dst_dir_fd=dir_fd)
                self._name = None
        except OSError:
            self._take_back()
            raise

    def account(self, already: int = 0) -> None:
        """What it occupies belongs to the upper layer from now on; ``already``: blocks (of 512 bytes) of it that did before."""
        limit = self._work.limit
        if limit is not None:
            self._release(limit)
            limit.take((os.fstat(self.fd).st_blocks - already) * 512)

    def _take_back(self) -> None:
        if self._work.limit is not None:
            self._work.limit.charge(-os.fstat(self.fd).st_blocks * 512)

    def _release(self, limit: SizeLimit) -> None:
        limit.release(self._reserved)
        self._reserved = 0

    def drop(self) -> None:
        """It shall not be: close it and remove the name it has here."""
        if self._work.limit is not None:
            self._release(self._work.limit)
        os.close(self.fd)
        if self._name is not None:
            self._work.remove(self._name)
            self._name = None
