"""A layer's tar becomes a directory in the kernel OverlayFS's format, and nothing outside of that directory is touched.

Kept are contents with their holes, owners, modes, times, extended attributes (capabilities and ACLs among them), hard links,
devices, fifos, symbolic links, whiteouts, opaque directories.  Where several entries have one name the last one counts, as for
tar(1); a whiteout in the same archive hides what is below the layer, never what the layer itself has (image-spec, layer.md).
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unionfs.store import overlay_format
from unionfs.store.digest import Digest
from unionfs.store.entry_metadata import EntryMetadata, apply, metadata_of
from unionfs.store.errors import CorruptError, RefusedEntryError, StoreError
from unionfs.store.full_disk import FULL
from unionfs.store.layer_root import LayerRoot, is_directory
from unionfs.store.recipe import RecipeWriter, replaced_directory
from unionfs.store.skipped import SkipCounter, Skipped
from unionfs.store.tar_stream import TarStream

_HOLE = 1 << 16
_ZEROS = bytes(_HOLE)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_THE_ENTRY = frozenset(
    (
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EMLINK,
        errno.ERANGE,
        errno.E2BIG,
        errno.EFBIG,
        errno.EPERM,  # an attribute of users on a symbolic link, for one
        errno.EACCES,
    )
)
_MAKE_ROOM = "make room on the disk of the store"


class Unpacked(NamedTuple):
    """What became of a tar: its digest and size in bytes, the bytes of all files, how many entries it had, what of them this
    process could not set, and which directories have an entry (others are there for what is in them)."""

    diff_id: Digest
    tar_size: int
    unpacked_size: int
    entries: int
    skipped: Skipped | None
    directories: frozenset[bytes]


def unpack_layer(
    stream: BinaryIO,
    diff: Path,
    recipe: Path,
    *,
    thing: str = "layer",
    progress: Callable[[int], None] | None = None,
    needs_end: bool = True,
    with_content: bool = True,
) -> Unpacked:
    """Unpack the uncompressed tar ``stream`` into the empty directory ``diff`` and write its recipe.

    ``thing``: what errors call the archive.  ``needs_end``: a tar without its end mark is refused, for nothing else tells that it
    is all there; where the digest is known beforehand it may be left out, as Go's archive/tar has it.  ``with_content``: without,
    files get their size and no data, which is enough to compare everything else.

    Raises:
        CorruptError: it is no sound tar, or truncated.
        RefusedEntryError: an entry would leave the directory, or cannot be made by this user.
        StoreError: the filesystem cannot hold what an entry has, or is full.
        OSError: it failed otherwise (EIO, EROFS).
    """
    writer = RecipeWriter()
    root = LayerRoot(diff, thing, replaced_directory(recipe))
    try:
        tar = TarStream(stream, thing, writer, progress, needs_end=needs_end)
        unpacked = _Unpacking(root, tar, writer, thing, with_content=with_content).run()
    finally:
        root.close()
    try:
        writer.save(recipe)
    except OSError as error:
        if error.errno in FULL:
            raise StoreError(f"{thing}: its recipe", f"cannot be written: {error.strerror}", _MAKE_ROOM) from error
        raise
    return unpacked


class _Unpacking:
    """One archive being unpacked."""

    def __init__(self, root: LayerRoot, stream: TarStream, recipe: RecipeWriter, thing: str, *, with_content: bool) -> None:
        self._root = root
        self._stream = stream
        self._recipe = recipe
        self._thing = thing
        self._write = _write_with_holes if with_content else _leave_out
        self._skipped = SkipCounter()
        self._directories: dict[bytes, EntryMetadata] = {}
        self._size = 0
        self._entries = 0

    def run(self) -> Unpacked:
        for member in self._stream:
            self._entries += 1
            self._unpack(member)
        # At the end, for whatever was made in a directory changed its times; the deepest first.
        for path in sorted(self._directories, key=lambda path: path.count(b"/"), reverse=True):
            self._finish_directory(path, self._directories[path])
        return Unpacked(
            self._stream.digest,
            self._stream.size,
            self._size,
            self._entries,
            self._skipped.found,
            frozenset(self._directories),
        )

    def _unpack(self, member: tarfile.TarInfo) -> None:
        name = member.name.encode("utf-8", "surrogateescape")
        directory, last = self._root.parts(name)
        if self._is_below_mark(directory, name):
            return
        try:
            metadata = metadata_of(member)
        except ValueError as error:
            raise CorruptError(self._thing, f"{member.name!r} has an impossible attribute: {error}", "get it anew") from error
        try:
            if not last:
                self._unpack_root(member, name, metadata)
            elif last.startswith(overlay_format.TAR_WHITEOUT):
                self._unpack_whiteout(directory, last, name)
            else:
                self._unpack_object(member, directory, last, name, metadata)
        except OSError as error:
            raise self._explain(name, error) from error
        except (ValueError, OverflowError) as error:
            # A NUL in the target of a link or in the name of an attribute; a size beyond 64 bits.
            raise CorruptError(self._thing, f"{member.name!r} cannot be made: {error}", "get it anew") from error

    def _is_below_mark(self, directory: bytes, name: bytes) -> bool:
        """Whether the entry is one of what AUFS keeps below a name of its own."""
        for component in directory.split(b"/"):
            if component.startswith(overlay_format.TAR_META):
                return True
            if component.startswith(overlay_format.TAR_WHITEOUT):
                raise self._root.refusal(name, "below a whiteout")
        return False

    def _explain(self, name: bytes, error: OSError) -> Exception:
        if error.errno in _OF_THE_ENTRY:
            return self._root.refusal(name, f"cannot be made: {error.strerror}")
        if error.errno in FULL:
            thing = f"{self._thing}: {os.fsdecode(name)!r}"
            return StoreError(thing, f"cannot be unpacked: {error.strerror}", _MAKE_ROOM)
        if error.errno == errno.EOPNOTSUPP:
            thing = f"{self._thing}: {os.fsdecode(name)!r}"
            return StoreError(
                thing, "has attributes that the store's filesystem cannot hold", "use a store on ext4, XFS or Btrfs (--root)"
            )
        return OSError(error.errno, error.strerror, f"{self._thing}: {os.fsdecode(name)}")

    def _unpack_root(self, member: tarfile.TarInfo, name: bytes, metadata: EntryMetadata) -> None:
        if not member.isdir():
            raise self._root.refusal(name, "the root of a layer is a directory")
        self._directories[b""] = metadata

    # -- whiteouts ----------------------------------------------------------------------------------------------------

    def _unpack_whiteout(self, directory: bytes, last: bytes, name: bytes) -> None:
        parent = self._parent(directory, name)
        if last == overlay_format.TAR_OPAQUE:
            overlay_format.make_opaque(parent)
            return
        if last.startswith(overlay_format.TAR_META):
            return
        hidden = last.removeprefix(overlay_format.TAR_WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise self._root.refusal(name, "a whiteout of nothing")
        there = self._root.lstat(parent, hidden)
        if there is None:
            overlay_format.make_whiteout(parent, hidden)
        elif is_directory(there):
            self._hide_below(directory, hidden)

    def _hide_below(self, directory: bytes, last: bytes) -> None:
        """The layer has a directory and a whiteout of one name: nothing below the layer is merged with it."""
        fd = self._root.open_directory(directory + b"/" + last if directory else last)
        try:
            overlay_format.make_opaque(fd)
        finally:
            os.close(fd)

    def _parent(self, directory: bytes, name: bytes) -> int:
        """As `LayerRoot.parent`; where the layer has a whiteout on the way, that becomes an opaque directory: it hides what is
        below the layer, never what the layer itself has."""
        try:
            return self._root.parent(directory, name)
        except RefusedEntryError:
            if not self._uncover(directory):
                raise
            return self._root.parent(directory, name)

    def _uncover(self, directory: bytes) -> bool:
        """Whether there was such a whiteout."""
        components = directory.split(b"/")
        for count in range(len(components)):
            above, last = b"/".join(components[:count]), components[count]
            try:
                fd = self._root.open_directory(above)
            except OSError:
                return False
            try:
                there = self._root.lstat(fd, last)
                if there is not None and _is_whiteout_in(fd, last, there):
                    self._root.uncover(fd, last)
                    return True
            finally:
                os.close(fd)
        return False

    # -- objects ------------------------------------------------------------------------------------------------------

    def _unpack_object(
        self, member: tarfile.TarInfo, directory: bytes, last: bytes, name: bytes, metadata: EntryMetadata
    ) -> None:
        root = self._root
        path = directory + b"/" + last if directory else last
        parent = self._parent(directory, name)
        there = root.lstat(parent, last)
        hides_below = False
        if there is not None and not (member.isdir() and is_directory(there)):
            hides_below = self._make_free(parent, last, path, there)
            parent = root.parent(directory, name)
        if member.isdir():
            if not is_directory(there):
                os.mkdir(last, 0o700, dir_fd=parent)
            self._directories[path] = metadata
            if hides_below:
                self._hide_below(directory, last)
        elif member.islnk():
            self._link(member, parent, last, name)
        else:
            self._make(member, parent, last, path, name)
            apply(metadata, parent, last, is_symlink=member.issym(), skip=lambda what: self._skipped.skip(path, what))

    def _make_free(self, parent: int, last: bytes, path: bytes, there: os.stat_result) -> bool:
        """Whether it was a whiteout that was in the way."""
        if _is_whiteout_in(parent, last, there):
            self._root.drop_whiteout(parent, last)
            return True
        # A directory goes with all that the archive put there before.
        if is_directory(there):
            self._root.forget_parent()
            parent = self._root.parent(path.rpartition(b"/")[0], path)
            below = path + b"/"
            for known in [known for known in self._directories if known == path or known.startswith(below)]:
                del self._directories[known]
        self._recipe.replaced(path, self._root.replace(parent, last))
        return False

    def _link(self, member: tarfile.TarInfo, parent: int, last: bytes, name: bytes) -> None:
        target = member.linkname.encode("utf-8", "surrogateescape")
        try:
            directory, target_last = self._root.parts(target)
        except RefusedEntryError as error:
            raise self._root.refusal(name, f"a hard link to {member.linkname!r}: {error.problem}") from None
        if b"/".join((directory, target_last)) == b"/".join(self._root.parts(name)):
            # containerd and podman fail as well: what has the name is removed before the link is made.
            raise self._root.refusal(name, "a hard link to itself")
        absent = self._root.refusal(name, f"a hard link to {member.linkname!r}, which is no file of the layer")
        try:
            source = self._root.open_directory(directory)
        except OSError:
            raise absent from None
        try:
            there = self._root.lstat(source, target_last or b".")
            if there is None or is_directory(there) or _is_whiteout_in(source, target_last, there):
                raise absent
            os.link(target_last, last, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _make(self, member: tarfile.TarInfo, parent: int, last: bytes, path: bytes, name: bytes) -> None:
        if member.issym():
            os.symlink(member.linkname.encode("utf-8", "surrogateescape"), last, dir_fd=parent)
        elif member.isfifo():
            os.mkfifo(last, 0o600, dir_fd=parent)
        elif member.ischr() or member.isblk():
            self._make_device(member, parent, last, name)
        elif member.isreg():
            self._make_file(member, parent, last, path)
        else:
            raise self._root.refusal(name, f"an entry of the unknown type {member.type!r}")

    def _make_device(self, member: tarfile.TarInfo, parent: int, last: bytes, name: bytes) -> None:
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        try:
            device = os.makedev(member.devmajor, member.devminor)
        except (OverflowError, ValueError):
            raise self._root.refusal(name, "a device with impossible numbers") from None
        if kind == stat.S_IFCHR and device == 0:
            raise self._root.refusal(name, "a device 0:0, which a layer has for whiteouts")
        try:
            os.mknod(last, kind | 0o600, device, dir_fd=parent)
        except PermissionError:
            raise self._root.refusal(name, "a device, which only root may make") from None

    def _make_file(self, member: tarfile.TarInfo, parent: int, last: bytes, path: bytes) -> None:
        fd = os.open(last, _CREATE, 0o600, dir_fd=parent)
        try:
            if member.sparse is not None:
                for offset, data in self._stream.sparse_content(member):
                    self._write(fd, offset, data)
            else:
                offset = 0
                for data in self._stream.content(member, path):
                    self._write(fd, offset, data)
                    offset += len(data)
            os.ftruncate(fd, member.size)
        finally:
            os.close(fd)
        self._size += member.size

    def _finish_directory(self, path: bytes, metadata: EntryMetadata) -> None:
        fd = self._root.open_directory(path)
        try:
            apply(metadata, fd, b".", skip=lambda what: self._skipped.skip(path, what))
        except OSError as error:
            raise self._explain(path, error) from error
        except ValueError as error:
            raise CorruptError(self._thing, f"{os.fsdecode(path)!r} cannot be made: {error}", "get it anew") from error
        finally:
            os.close(fd)


def _is_whiteout_in(directory: int, name: bytes, st: os.stat_result) -> bool:
    return overlay_format.is_whiteout(b"/proc/self/fd/%d/%s" % (directory, name), st)


def _leave_out(_fd: int, _offset: int, _data: bytes) -> None:
    pass


def _write_with_holes(fd: int, offset: int, data: bytes) -> None:
    """Write ``data`` at ``offset``; where it is nothing but zeros for long, the file gets a hole."""
    view = memoryview(data)
    for start in range(0, len(view), _HOLE):
        piece = view[start : start + _HOLE]
        if piece == _ZEROS[: len(piece)]:
            continue
        while piece:
            written = os.pwrite(fd, piece, offset + start)
            piece = piece[written:]
            start += written
