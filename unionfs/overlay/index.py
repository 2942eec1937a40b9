"""The index: the names of one lower file stay names of one file over copy-up and over remounts (``index=on`` of OverlayFS).

``index`` in the work directory holds one more hard link of each upper file that was copied up from a lower file with several
names.  It is called after the file's origin, in hexadecimal, so that whoever comes by another lower name finds it.  The upper
file's attribute ``nlink`` tells how many names the union shows: ``U+N`` relative to the upper's own link count, ``L+N`` to the
lower's.  A change of names writes it before, relative to the count that the change does not move, so that a crash leaves it true
on both sides.

Source: Documentation/filesystems/overlayfs.rst ("Inode properties", "Index"), ``ovl_get_indexdir`` (fs/overlayfs/super.c),
``ovl_verify_index`` (namei.c), ``ovl_link_up`` (copy_up.c), ``ovl_get_nlink`` and ``ovl_nlink_start`` (util.c).
"""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import os
import re
from pathlib import Path

from unionfs.overlay import kinds
from unionfs.overlay.inode import Inode, LowerLinks
from unionfs.overlay.layer import Layer, RealDir, open_index
from unionfs.overlay.listing import kind_of
from unionfs.overlay.origin import UNKNOWN, Origins
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.work_dir import remove_tree

_log = logging.getLogger("unionfs.overlay")

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_ORPHAN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = "index"
_NLINK = re.compile(rb"([UL])([+-][0-9]{1,10})")


class Index:
    """The index of one upper layer."""

    def __init__(
        self,
        work: Path,
        upper: Layer,
        lowers: list[Layer],
        origins: Origins,
        xattrs: PrivateXattrs,
        read_only: bool = False,
        top_lower: Layer | None = None,
    ) -> None:
        """Open the index in ``work``, the directory that the user named.  Make it if need be, and clean up what a crash left in
        it, if not ``read_only``.  ``top_lower``: what it must have been made over, if that is to be verified.

        Raises:
            OSError: EOPNOTSUPP or EPERM: a lower's filesystem has no file handles, or we may not open them; ESTALE: the index is
                of another upper, or was made over another lower.
        """
        self._origins = origins
        self._xattrs = xattrs
        _verify_handles(lowers, origins)
        if top_lower is not None:
            _verify_lower(upper, top_lower, origins, xattrs, read_only)
        path = work / _NAME
        if not read_only:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
        self._layer = open_index(path, is_upper=not read_only)
        try:
            self._verify_upper(upper, read_only)
            if not read_only:
                self._clean()
            self._unsettled: set[bytes] = set()
            self._entries = {name for name in map(os.fsencode, os.listdir(self.place.fd)) if not name.startswith(b"#")}
        except OSError:
            self.close()
            raise

    def over(self, lowers: list[Layer], origins: Origins) -> Index:
        """The same index for other lower layers, whose origins are ``origins``.

        Raises:
            OSError: EOPNOTSUPP or EPERM, as at the start.
        """
        _verify_handles(lowers, origins)
        other = copy.copy(self)
        other._origins = origins
        return other

    @property
    def place(self) -> RealDir:
        """The directory itself: the place of all files that are in it."""
        return self._layer.root

    def __len__(self) -> int:
        return len(self._entries)

    def take_origins(self, origins: Origins) -> None:
        """``origins`` are those of the lower layers from now on."""
        self._origins = origins

    def incomplete(self) -> set[tuple[int, int]]:
        """The lower files (device, inode number) of which the upper has not all names that the union shows."""
        found = set()
        for name in self._entries:
            known = self.links_of(name)
            # One of the names that the file itself has is the one in here.
            if known is not None and known[0].offset >= 0:
                found.add(known[0].key)
        return found

    def links_of(self, entry: bytes) -> tuple[LowerLinks, os.stat_result] | None:
        """What is known of the file that is ``entry``, and its attributes; None if the lower file cannot be told.

        Raises:
            OSError: as `join`.
        """
        origin = self._origins.find(_origin_in(entry))
        if origin is None:
            return None
        links = LowerLinks((origin.device, origin.ino), origin.nlink)
        kind = kind_of(os.stat(entry, dir_fd=self.place.fd, follow_symlinks=False))
        return links, self.join(links, entry, kind)

    def close(self) -> None:
        """Close the directory."""
        self._layer.close()

    # -- opening ----------------------------------------------------------------------------------------------------------

    def _verify_upper(self, upper: Layer, read_only: bool) -> None:
        wanted = self._origins.of(upper.root.fd, b"", upper.device, of_upper=True)
        found = self._xattrs.index_of(self.place.fd)
        if not found and not read_only:
            self._xattrs.set_index_of(self.place.fd, wanted)
        elif found != wanted:
            raise OSError(errno.ESTALE, "the index of hard links in it is of another upper", str(self._layer.path.parent))

    def _clean(self) -> None:
        """Remove what a crash left without meaning."""
        fd = self.place.fd
        for text in os.listdir(fd):
            name = os.fsencode(text)
            if name.startswith(b"#"):
                remove_tree(fd, name)
            elif self._is_orphan(name):
                _log.info("index entry %s is of a file that has no name left: removed", text)
                os.unlink(name, dir_fd=fd)

    def _is_orphan(self, name: bytes) -> bool:
        st = os.stat(name, dir_fd=self.place.fd, follow_symlinks=False)
        if kind_of(st) in (kinds.DIR, kinds.WHT):  # made with nfs_export, of no use here
            return False
        mark = _NLINK.fullmatch(self._xattrs.nlink(self._path(name)))
        if mark is None:
            return True
        if mark[1] == b"U":
            return st.st_nlink + int(mark[2]) <= 0
        origin = self._origins.find(_origin_in(name))
        return origin is not None and origin.nlink + int(mark[2]) <= 0

    # -- finding ----------------------------------------------------------------------------------------------------------

    def entry_of(self, dir_fd: int, name: bytes, device: int) -> bytes:
        """What the entry of the lower file ``name`` in ``dir_fd`` is called, whether there is one or not.

        Raises:
            OSError: EOPNOTSUPP: the file has no handle.
        """
        value = self._origins.of(dir_fd, name, device)
        if value == UNKNOWN:
            raise OSError(errno.EOPNOTSUPP, "a lower file with several names has no file handle for the index", os.fsdecode(name))
        return value.hex().encode()

    def has(self, entry: bytes) -> bool:
        """Whether there is an entry of that name."""
        return entry in self._entries

    def join(self, links: LowerLinks, entry: bytes, kind: int) -> os.stat_result:
        """A file that was copied up before and is in the index as ``entry``: note that in ``links``; its attributes.

        Raises:
            OSError: ESTALE for a removed object, EIO for one of another type than ``kind``.
        """
        st = os.stat(entry, dir_fd=self.place.fd, follow_symlinks=False)
        found = kind_of(st)
        if found != kind:
            number = errno.ESTALE if found == kinds.WHT else errno.EIO
            raise OSError(number, "the index entry is not what the lower file is", os.fsdecode(entry))
        links.entry = entry
        mark = _NLINK.fullmatch(self._xattrs.nlink(self._path(entry)))
        if mark is None:
            links.offset = 0
        else:
            if mark[1] == b"L":
                # As `link` left it, and whoever was to settle it did not come to that.
                self._unsettled.add(entry)
            links.offset = int(mark[2]) + (links.nlink - st.st_nlink if mark[1] == b"L" else 0)
        return st

    # -- changing ---------------------------------------------------------------------------------------------------------

    def prepare(self, copy: bytes | int, lower_nlink: int) -> None:
        """Write the count of names on a copy, at a path or open, that is about to become an entry and has no other name yet."""
        self._xattrs.set_nlink(copy, b"U%+d" % (lower_nlink - 1), follow=isinstance(copy, int))

    def entered(self, links: LowerLinks, entry: bytes) -> None:
        """A copy that was prepared now is ``entry``."""
        self._entries.add(entry)
        links.entry, links.offset = entry, links.nlink - 1

    def link(self, links: LowerLinks, dir_fd: int, name: bytes) -> None:
        """Give an indexed file in the upper layer a name that the union shows it by already: that of a lower one.

        What is written on it holds with the name and without, but no other name may change before `settle`."""
        path = self._path(links.entry)
        nlink = os.stat(links.entry, dir_fd=self.place.fd, follow_symlinks=False).st_nlink
        self._unsettled.add(links.entry)
        self._xattrs.set_nlink(path, b"L%+d" % (nlink + links.offset - links.nlink))
        os.link(links.entry, name, src_dir_fd=self.place.fd, dst_dir_fd=dir_fd, follow_symlinks=False)
        links.offset -= 1

    def settle(self, links: LowerLinks | None) -> None:
        """Call before a change of upper names of an indexed file: its count must not be relative to the lower's then, as `link`
        may have left it.

        Raises:
            OSError: what setxattr(2) gives.
        """
        if links is not None and links.entry in self._unsettled:
            self._xattrs.set_nlink(self._path(links.entry), b"U%+d" % links.offset)
            self._unsettled.discard(links.entry)

    def open_last(self, inode: Inode) -> int:
        """Call when a name of an indexed inode is about to go: its object, open (O_PATH), if that is the last one; else -1.

        Raises:
            OSError: what open(2) gives.
        """
        links = inode.links
        assert links is not None
        st = os.stat(links.entry, dir_fd=self.place.fd, follow_symlinks=False)
        return os.open(links.entry, _OPEN_ORPHAN, dir_fd=self.place.fd) if st.st_nlink + links.offset == 1 else -1

    def drop_if_unnamed(self, inode: Inode) -> None:
        """Call when a name of ``inode`` has gone.  With the last one its entry goes too, and it becomes an orphan.

        Best effort: an entry that is left is removed at the next mount.
        """
        links = inode.links
        if links is None or not links.entry:
            return
        try:
            st = os.stat(links.entry, dir_fd=self.place.fd, follow_symlinks=False)
            if st.st_nlink + links.offset > 0:
                return
            if inode.orphan_fd < 0:
                inode.orphan_fd = os.open(links.entry, _OPEN_ORPHAN, dir_fd=self.place.fd)
            os.unlink(links.entry, dir_fd=self.place.fd)
        except OSError as error:
            _log.warning("could not remove %s from the index: %s", os.fsdecode(links.entry), error)
            return
        self._entries.discard(links.entry)
        links.entry, links.offset = b"", 0

    def _path(self, entry: bytes) -> bytes:
        return b"/proc/self/fd/%d/%s" % (self.place.fd, entry)


def has_index(work: Path) -> bool:
    """Whether there is an index in a work directory."""
    return os.access(work / _NAME, os.R_OK | os.X_OK, effective_ids=True)


def _verify_handles(lowers: list[Layer], origins: Origins) -> None:
    for layer in {layer.device: layer for layer in lowers}.values():
        if layer.has_handles:
            continue  # a snapshot of a union in use must not wait for it
        value = origins.of(layer.root.fd, b"", layer.device)
        if value == UNKNOWN:
            raise OSError(errno.EOPNOTSUPP, "its filesystem has no file handles, which index=on needs", str(layer.path))
        if origins.find(value) is None:
            problem = "may not be opened by its file handle (CAP_DAC_READ_SEARCH), which index=on needs"
            raise OSError(errno.EPERM, problem, str(layer.path))
        layer.has_handles = True


def _verify_lower(upper: Layer, lower: Layer, origins: Origins, xattrs: PrivateXattrs, read_only: bool) -> None:
    """The topmost lower is noted as the origin of the upper, so that another one is not taken for it."""
    root = b"/proc/self/fd/%d/." % upper.root.fd
    wanted = origins.of(lower.root.fd, b"", lower.device)
    found = xattrs.origin(root)
    if found and found != wanted:
        problem = "was mounted with index=on over another lower than this one, whose files its index does not know"
        raise OSError(errno.ESTALE, problem, str(upper.path))
    if not found and not read_only and not xattrs.set_origin(root, wanted, follow=False):
        raise OSError(errno.EOPNOTSUPP, "cannot hold the extended attributes that index=on needs", str(upper.path))


def _origin_in(entry: bytes) -> bytes:
    try:
        return bytes.fromhex(entry.decode("ascii"))
    except ValueError:
        return b""
