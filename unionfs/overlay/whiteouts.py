"""Whiteouts and opaque marks of the upper layer: the form in which they are written, and how a name goes from hidden to shown.

The forms, best first; a mount takes the first one that its upper allows:

``dev``    a character device 0:0 in the place of the name, as OverlayFS writes it.
``xattr``  an empty regular file with the attribute ``whiteout`` in its place, in a directory with ``opaque=x`` (since Linux 6.7).
``wh``     a file ``.wh.NAME`` beside it, as AUFS and fuse-overlayfs write it: needs neither devices nor attributes.

Opaque directories have the attribute ``opaque``, or, where there are no attributes or the form is ``wh``, hold a file
``.wh..wh..opq``.  All whiteouts of an upper directory that was read are in the form of the mount: `Whiteouts.adopt`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator

from unionfs.linux.rename import RENAME_EXCHANGE, renameat2
from unionfs.overlay import kinds
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import DOT_OPAQUE, DOT_WHITEOUT, WHITEOUT, RealName, dot_whiteouts, kind_in, kind_of
from unionfs.overlay.options import WhiteoutForm
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.work_dir import WorkDir

_OPEN_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_log = logging.getLogger("unionfs.overlay")

_MAKE_EMPTY = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# No right, no such thing on this filesystem, or forbidden to the process (seccomp).
_CANNOT_MAKE = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Whiteouts:
    """Writes the whiteouts of one writable union.

    Attributes:
        form: the form in which they are written.
        has_xattrs: whether the upper holds the union's own attributes at all.
        has_opaque_xattr: whether opaque directories are marked by an attribute, and not by a file in them.
    """

    def __init__(self, work: WorkDir, xattrs: PrivateXattrs, pool: FdPool, choice: WhiteoutForm = "auto") -> None:
        """``choice``: the form to write; ``auto``: the best one that is possible, tried out in the work directory.

        Raises:
            OSError: EOPNOTSUPP: ``choice`` is not possible.
        """
        self._work = work
        self._xattrs = xattrs
        self._pool = pool
        self._shared: bytes | None = None
        self.has_xattrs = xattrs.can_mark(work.fd)
        self.form = self._possible_form(choice)
        self.has_opaque_xattr = self.has_xattrs and self.form != "wh"

    def _possible_form(self, choice: WhiteoutForm) -> WhiteoutForm:
        forms: tuple[WhiteoutForm, ...] = ("dev", "xattr", "wh") if choice == "auto" else (choice,)
        for form in forms:
            self.form = form
            if form == "wh" or self._can_make_one():
                return form
        problem = f"whiteout={choice} is not possible on this filesystem, or not permitted; leave it out"
        raise OSError(errno.EOPNOTSUPP, problem, os.readlink(f"/proc/self/fd/{self._work.fd}"))

    def _can_make_one(self) -> bool:
        name = self._work.new_name()
        with self._work.staged(name):
            try:
                self._make_inode(name)
            except OSError as error:
                if error.errno not in _CANNOT_MAKE:
                    raise
                return False
            # Some network filesystems make something else of a device than was asked for.
            kind = kind_of(os.stat(name, dir_fd=self._work.fd, follow_symlinks=False))
            return kind == (kinds.WHT if self.form == "dev" else kinds.REG)

    @property
    def keeps_redirects(self) -> bool:
        """Whether a directory with lower parts can move: its redirect needs an attribute, the way a whiteout that it can change
        places with."""
        return self.form == "dev" and self.has_xattrs

    def losses(self) -> Iterator[str]:
        """What the upper does not allow, in sentences for the user."""
        if self.form == "xattr":
            yield "no character devices can be made there, so whiteouts are extended attributes (readable since Linux 6.7)"
        elif self.form == "wh":
            yield "whiteouts are files .wh.NAME there, which the kernel's OverlayFS does not know"
        if not self.has_xattrs:
            yield (
                f"no attributes {os.fsdecode(self._xattrs.prefix)}* can be set there: opaque directories hold .wh..wh..opq, and "
                "inode numbers of copied-up files change with every mount"
            )
        if not self.keeps_redirects:
            yield "so directories of lower layers cannot be renamed (EXDEV), and metacopy is off"

    # -- hiding -----------------------------------------------------------------------------------------------------------

    def hide(self, real: RealDir, name: bytes) -> None:
        """Let a whiteout hide what lies below ``name`` of an upper directory, in place of what is there, no directory; atomic."""
        fd = real.open(self._pool)
        if self.form == "wh":
            # Asked before: where nothing is there, it is done with the first step.
            is_there = os.path.lexists(b"/proc/self/fd/%d/%s" % (fd, name))
            self.put_beside(fd, name)
            if is_there:
                os.unlink(name, dir_fd=fd)
            return
        whiteout = self._make(real, fd)
        try:
            os.rename(whiteout, name, src_dir_fd=self._work.fd, dst_dir_fd=fd)
        except OSError:
            self._work.remove(whiteout)
            raise

    def hide_directory(self, real: RealDir, name: bytes) -> None:
        """The same where a directory is: that is removed with all it holds (whiteouts, if it was seen empty)."""
        work, fd = self._work, real.open(self._pool)
        if self.form == "wh":
            self.put_beside(fd, name)
            with work.staged(work.new_name()) as staged:
                os.rename(name, staged, src_dir_fd=fd, dst_dir_fd=work.fd)
        else:
            with work.staged(self._make(real, fd)) as whiteout:
                renameat2(work.fd, whiteout, fd, name, RENAME_EXCHANGE)

    def make_opaque(self, path: bytes) -> None:
        """Let nothing below be merged with the directory at ``path``, one under /proc/self/fd."""
        if self.has_opaque_xattr:
            self._xattrs.make_opaque(path)
        else:
            fd = os.open(path, _OPEN_DIR)
            try:
                with contextlib.suppress(FileExistsError), _keeping_times(b"/proc/self/fd/%d" % fd):
                    os.close(os.open(DOT_OPAQUE, _MAKE_EMPTY, 0o600, dir_fd=fd))
            finally:
                os.close(fd)

    # -- showing ----------------------------------------------------------------------------------------------------------

    def replace(self, source_fd: int, staged: bytes, real: RealDir, name: bytes, is_directory: bool = False) -> None:
        """Move what was made ready to where a whiteout is; atomic.  If it is a directory the whiteout may come back under the
        name ``staged``."""
        fd = real.open(self._pool)
        if self.form == "wh":
            os.rename(staged, name, src_dir_fd=source_fd, dst_dir_fd=fd)
            self.tidy_beside(fd, name)
        elif is_directory:
            # Only an exchange puts a directory where something else is.
            try:
                renameat2(source_fd, staged, fd, name, RENAME_EXCHANGE)
            except FileNotFoundError:
                # `move_without_exchange` left the whiteout beside the name.
                os.rename(staged, name, src_dir_fd=source_fd, dst_dir_fd=fd)
                self.tidy_beside(fd, name)
        else:
            os.rename(staged, name, src_dir_fd=source_fd, dst_dir_fd=fd)

    def move_without_exchange(
        self, old: RealDir, old_name: bytes, new: RealDir, new_name: bytes, leaves_whiteout: bool, over_whiteout: bool
    ) -> None:
        """Rename within the upper where a whiteout cannot change places with what moves: one with an attribute means nothing in
        a directory without its mark, and one beside its name is not there to be moved.

        A file ``.wh.NAME`` beside a name that is there hides nothing, so it may stand before and after without being seen; what
        moves must not be merged with anything below.
        """
        old_fd, new_fd = old.open(self._pool), new.open(self._pool)
        if leaves_whiteout:
            self.put_beside(old_fd, old_name)
        if over_whiteout and self.form != "wh":
            self.put_beside(new_fd, new_name)
            with contextlib.suppress(FileNotFoundError):  # it was beside its name already
                os.unlink(new_name, dir_fd=new_fd)
        try:
            os.rename(old_name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
        except OSError:
            self.tidy_beside(old_fd, old_name)
            if over_whiteout and self.form != "wh":
                self._hide_as_beside(new, new_name)
            raise
        if leaves_whiteout and self.form != "wh":
            self._hide_as_beside(old, old_name)
        if over_whiteout:
            self.tidy_beside(new_fd, new_name)

    def _hide_as_beside(self, real: RealDir, name: bytes) -> None:
        """Put a whiteout in the place of a name that one beside it hides.  Where that fails the other stays: it hides as well."""
        try:
            self.hide(real, name)
            self.remove_beside(real.open(self._pool), name)
        except OSError as error:
            _log.warning("the whiteout of %s stays beside it: %s", os.fsdecode(name), error)

    def tidy_beside(self, fd: int, name: bytes) -> None:
        """`remove_beside` where ``name`` is there again, so that the file hides nothing and may as well stay."""
        try:
            self.remove_beside(fd, name)
        except OSError as error:
            _log.warning("could not remove the whiteout beside %s, which hides nothing: %s", os.fsdecode(name), error)

    @staticmethod
    def put_beside(fd: int, name: bytes) -> None:
        """Make the file ``.wh.NAME``: it hides what lies below ``name``, and makes that opaque if it is a directory."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(DOT_WHITEOUT + name, _MAKE_EMPTY, 0o600, dir_fd=fd))

    @staticmethod
    def remove_beside(fd: int, name: bytes) -> None:
        """Remove it, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(DOT_WHITEOUT + name, dir_fd=fd)

    # -- those that are there ---------------------------------------------------------------------------------------------

    def adopt(self, real: RealDir, names: dict[bytes, RealName]) -> None:
        """Bring the whiteouts of an upper directory, whose ``names`` were just read, into the form of this mount; ``names`` then
        has them all as `WHITEOUT`, under the names that they hide."""
        beside = [name for name in names if name.startswith(DOT_WHITEOUT)]
        if not beside and (self.form == "xattr" or (self.form == "dev" and not real.has_xattr_whiteouts)):
            return
        with _keeping_times(b"/proc/self/fd/%d" % real.open(self._pool)):
            self._adopt_in_place(real, names)
            if DOT_OPAQUE in names and self.has_opaque_xattr:
                fd = real.open(self._pool)
                self._xattrs.make_opaque(b"/proc/self/fd/%d" % fd, follow=True)
                os.unlink(DOT_OPAQUE, dir_fd=fd)
            for hidden in list(dot_whiteouts(names)):
                self._adopt_beside(real, hidden, names)
        for name in beside:
            del names[name]

    def _adopt_in_place(self, real: RealDir, names: dict[bytes, RealName]) -> None:
        if self.form == "xattr" or (self.form == "dev" and not real.has_xattr_whiteouts):
            return
        fd = real.open(self._pool)
        for name, found in names.items():
            if kind_in(found) != kinds.WHT:
                continue
            if self.form == "wh" or stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                self.hide(real, name)

    def _adopt_beside(self, real: RealDir, hidden: bytes, names: dict[bytes, RealName]) -> None:
        above = names.get(hidden)
        if above is None or kind_in(above) == kinds.WHT:
            names[hidden] = WHITEOUT
            if self.form == "wh":
                return
            if above is None:
                self.hide(real, hidden)
        fd = real.open(self._pool)
        if above is not None and kind_in(above) == kinds.DIR:
            self.make_opaque(b"/proc/self/fd/%d/%s" % (fd, hidden))
        self.remove_beside(fd, hidden)

    # -- making -----------------------------------------------------------------------------------------------------------

    def _make(self, real: RealDir, fd: int) -> bytes:
        """A new whiteout in the work directory, to be moved into ``real``; its name.

        All are hard links to one inode (as in OverlayFS since 5.8), which saves inodes; when that has as many links as the
        filesystem allows, another one is begun.
        """
        if self.form == "xattr" and not real.has_xattr_whiteouts:
            # Before the first one: without the mark it would be listed as a file.
            self._xattrs.announce_whiteouts(fd)
            real.has_xattr_whiteouts = True
        work = self._work
        name = work.new_name()
        if self._shared is not None:
            try:
                os.link(self._shared, name, src_dir_fd=work.fd, dst_dir_fd=work.fd, follow_symlinks=False)
                return name
            except OSError as error:
                if error.errno not in (errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP):
                    raise
                os.unlink(self._shared, dir_fd=work.fd)
                self._shared = None
        self._make_inode(name)
        with contextlib.suppress(OSError):  # a filesystem without hard links: every whiteout then is an inode of its own
            shared = work.new_name()
            os.link(name, shared, src_dir_fd=work.fd, dst_dir_fd=work.fd, follow_symlinks=False)
            self._shared = shared
        return name

    def _make_inode(self, name: bytes) -> None:
        fd = self._work.fd
        if self.form == "dev":
            os.mknod(name, stat.S_IFCHR, kinds.WHITEOUT_RDEV, dir_fd=fd)
            return
        os.close(os.open(name, _MAKE_EMPTY, 0o600, dir_fd=fd))
        try:
            self._xattrs.make_whiteout(b"/proc/self/fd/%d/%s" % (fd, name))
        except OSError:
            self._work.remove(name)
            raise


@contextlib.contextmanager
def _keeping_times(path: bytes) -> Iterator[None]:
    """Gives a directory its times back at the end: for the user nothing has changed in it."""
    before = os.stat(path)
    yield
    if os.stat(path).st_mtime_ns != before.st_mtime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
