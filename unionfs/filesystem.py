"""The filesystem contract: the one interface between a transport (``unionfs.fuse``) and a filesystem (``unionfs.overlay``).

A transport decodes kernel requests, calls these methods from **one thread only**, and encodes what they return.  The
rules that hold for every method:

* **Errors** are ``OSError`` with ``errno`` set; nothing else is raised but `Blocking`.  A method that raises has changed
  nothing that is visible through the mount (parents copied up on the way may stay; that shows nowhere).
* **Slow work** is asked for by raising `Blocking`; a method never waits for a disk itself.
* **Names** are ``bytes`` without ``/`` and never ``.`` or ``..``.  They may hold any other byte but NUL.
* **Node ids** are positive ints, `ROOT_ID` for the root.  Every `Entry` returned adds one to the node's *nlookup* (and every
  row with ``entry`` set that `Filesystem.readdirplus` returned *and the transport passed on*); `Filesystem.forget` takes
  them back.  A node id stays valid until its nlookup is 0.  Node ids are never used again while the mount lives.
* **Permission** checks are the kernel's (``default_permissions``); methods use the caller's identity (`Caller`) only to own
  what they create.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

T = TypeVar("T")

ROOT_ID = 1

# Bits of `Changes.valid`; the numbers are FATTR_* of include/uapi/linux/fuse.h, so that a transport need not translate.
SET_MODE = 1 << 0
SET_UID = 1 << 1
SET_GID = 1 << 2
SET_SIZE = 1 << 3
SET_ATIME = 1 << 4
SET_MTIME = 1 << 5
SET_ATIME_NOW = 1 << 7
SET_MTIME_NOW = 1 << 8
SET_CTIME = 1 << 10
SET_KILL_SUIDGID = 1 << 11


class Attr(NamedTuple):
    """What stat(2) tells of an object.

    The fields stand in the order of ``struct fuse_attr``, so that the direct transport packs the tuple as it is.
    Times are whole seconds (may be negative) with nanoseconds (0..999999999) apart; ``blocks`` counts 512 bytes;
    ``rdev`` is in the kernel's 32-bit ``new_encode_dev`` form (for every device number below 2^32 the same as ``st_rdev``).
    """

    ino: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    flags: int


class Entry(NamedTuple):
    """A name that was found or made.  ``node`` is its node id; 0 only in the rows of `Filesystem.readdirplus` ("no lookup
    counted")."""

    node: int
    attr: Attr


class DirRow(NamedTuple):
    """One name of a directory listing.

    ``offset`` is where the listing goes on *after* this row; ``kind`` is a ``DT_*`` number (``st_mode >> 12``).  ``entry`` is set
    only by `Filesystem.readdirplus`, and only for rows other than ``.`` and ``..``.
    """

    name: bytes
    ino: int
    kind: int
    offset: int
    entry: Entry | None


class Caller(NamedTuple):
    """Who asks: filesystem uid and gid, process id (0: none, the kernel itself), and the umask (0 where it does not apply)."""

    uid: int
    gid: int
    pid: int
    umask: int


class Changes(NamedTuple):
    """What `Filesystem.setattr` shall change: ``valid`` is a set of ``SET_*`` bits; other fields count only with their bit.

    Times are in nanoseconds since the epoch.  ``SET_ATIME_NOW`` (always along with ``SET_ATIME``) means the time of the call;
    the same for mtime.  ``SET_CTIME`` may be ignored: a ctime cannot be set from user space.  ``SET_KILL_SUIDGID``: also
    drop the set-id bits, as chown(2) and truncate(2) by an unprivileged user do.  No other bit: the ctime moves, as by a
    chown(2) that names nobody.
    """

    valid: int
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0


class Opened(NamedTuple):
    """An open file.

    ``generation`` tells one real file behind a node from the next: it changes when a copy-up moved the data elsewhere, so a
    transport that keeps something of the real file (a passthrough backing id) compares it.  ``truncated``: the
    open itself emptied the file (``O_TRUNC``), so that no page of it may be kept in a cache.
    """

    generation: int
    truncated: bool = False


class ExtendedFlags(NamedTuple):
    """``struct fsxattr`` of ioctl_xfs_fsgetxattr(2): ``FS_XFLAG_*`` bits, extent size hint in bytes, number of extents (cannot be
    set), project id, extent size hint in bytes for copy-on-write."""

    xflags: int
    extsize: int
    nextents: int
    projid: int
    cowextsize: int


class StatFs(NamedTuple):
    """statvfs(3): block counts are in units of ``frsize`` bytes."""

    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    bsize: int
    namelen: int
    frsize: int


class Blocking(Exception):  # noqa: N818  not an error but a request to wait
    """Raised instead of waiting: run ``work`` in another thread, then go on.

    ``work`` does pure I/O and touches no shared state, so it is safe beside anything.  If ``restart`` (the default) the transport
    calls the same method with the same arguments again afterwards, and only then is anything replied; what ``work`` did or
    how it failed is known to the filesystem, and the second call tells.  If not ``restart``, what ``work`` returns *is* the
    result of the method, and an ``OSError`` it raises its error.

    The same ``work`` object may be raised to several requests while it runs (two writers of one file that is being
    copied up): a transport runs it once, and every one of them goes on when it ends.  It tells by ``is``.

    A work that may never end has a ``lane``, any object that is common to those that wait for the same: a transport runs only
    some of one lane at a time, so that others are not left without a thread, and nobody has to wait for their end: neither a
    caller that is killed, nor the session when the mount has gone.
    """

    def __init__(self, work: Callable[[], Any], restart: bool = True, lane: object | None = None) -> None:
        super().__init__(work, restart)
        self.work = work
        self.restart = restart
        self.lane = lane


def call_now(method: Callable[..., T], *arguments: Any) -> T:
    """Call a method of a filesystem before anything is served: whatever it asks to wait for is done here.

    Raises:
        OSError: that of the method.
    """
    while True:
        try:
            return method(*arguments)
        except Blocking as blocking:
            result = blocking.work()
            if not blocking.restart:
                return cast("T", result)


class StaleAttributes(NamedTuple):
    """A notice for the kernel: what it remembers of the attributes of ``node`` is no longer so."""

    node: int


class StaleContents(NamedTuple):
    """The same of the attributes and the contents of ``node``: pages of a file, listing of a directory."""

    node: int


class StaleName(NamedTuple):
    """What the kernel remembers of ``name`` in directory ``parent`` is no longer so: what it leads to, or that there is none."""

    parent: int
    name: bytes


class Forgettable(NamedTuple):
    """A request to the kernel: forget these nodes if nobody uses them.  What is open, mounted on or somebody's current directory
    stays.  A transport leaves it out where the kernel has no such message."""

    nodes: list[int]


Notice = StaleAttributes | StaleContents | StaleName


class Filesystem(Protocol):
    """A filesystem that a transport can serve.  See the module's rules first."""

    notices: list[StaleAttributes | Forgettable]
    """What the kernel must be told: of stale attributes before the reply to the call that put it there, so that whoever waits for
    that sees no old ones; of nodes to forget after it.  The transport empties the list."""

    stale: set[int]
    """The nodes whose attributes may change without the kernel being told (see `open`): it may trust those for 0 s."""

    writable: bool
    """False for a union without an upper: every change fails with EROFS."""

    # -- nodes ------------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The object that ``name`` means in directory ``parent``, or None where there is none (cheaper than ENOENT, and the
        kernel may remember it)."""

    def forget(self, node: int, nlookup: int) -> bool:
        """The kernel dropped ``nlookup`` references; whether it holds more.  Never raises, whatever the node."""

    def getattr(self, node: int) -> Attr:
        """Attributes of a node; also of one that is open but has no name left (nlink 0)."""

    def setattr(self, node: int, changes: Changes, caller: Caller) -> Attr:
        """Apply ``changes`` and return the attributes that result."""

    def readlink(self, node: int) -> bytes:
        """Target of a symbolic link."""

    def birth_time(self, node: int) -> int | None:
        """When the node's real object was made (a copy-up makes a new one), in nanoseconds since the epoch; None where its
        filesystem does not know."""

    def get_flags(self, node: int) -> int:
        """The ``FS_*_FL`` bits (ioctl_iflags(2)) of a regular file or directory.  ENOTTY for other objects, ENOTTY or EOPNOTSUPP
        where its filesystem has none."""

    def set_flags(self, node: int, flags: int) -> None:
        """Replace them.  EOPNOTSUPP for FS_IMMUTABLE_FL and FS_APPEND_FL: whoever caches on this side of the filesystem does not
        know of them, and would accept writes that cannot be carried out."""

    def get_extended_flags(self, node: int) -> ExtendedFlags:
        """The same flags in the form of FS_IOC_FSGETXATTR, and what that has besides."""

    def set_extended_flags(self, node: int, flags: ExtendedFlags) -> None:
        """FS_IOC_FSSETXATTR; errors as `set_flags`."""

    def statfs(self) -> StatFs:
        """Figures of the filesystem that holds the upper (without one: the top lower)."""

    # -- names ------------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        """Make a regular file, fifo, socket or device.  ``mode`` has type and permission bits; the caller's umask is applied
        here (not where the parent has a default ACL)."""

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        """Make a directory; modes as in `mknod`."""

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        """Make a symbolic link that contains ``target``."""

    def link(self, node: int, parent: int, name: bytes) -> Entry:
        """Give ``node`` one more name.  The entry returned may have another node id than ``node``."""

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name that is not a directory's."""

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        """renameat2(2): ``flags`` is 0, RENAME_NOREPLACE or RENAME_EXCHANGE; others get EINVAL."""

    # -- file contents ------------------------------------------------------------------------------------------------

    def open(self, node: int, flags: int, caller: Caller) -> Opened:
        """Prepare ``node`` for use with open(2) ``flags``; copies it up if they let the caller write, truncates it with O_TRUNC.

        ESTALE: the kernel must look the name up again, and will find another node (see `pin`).  A transport need not call
        this at all: `read` and `write` work on any node (zero-message open)."""

    def create(self, parent: int, name: bytes, flags: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        """Make a regular file and open it.  Where the name exists already: EEXIST with O_EXCL, otherwise it is opened."""

    def tmpfile(self, parent: int, mode: int, caller: Caller) -> tuple[Entry, Opened]:
        """Make a regular file without a name and open it (``O_TMPFILE``); what directory ``parent`` hands down to new files
        goes for it too.  `link` may give it a name; otherwise it ends with the last reference.  EOPNOTSUPP where the filesystem
        of the upper cannot."""

    def pin(self, node: int) -> None:
        """From now until `unpin` the kernel uses the node's real file directly (passthrough) and cannot be moved to another one.

        Counted.  A copy-up of a node pinned on a lower layer leaves it there, *stale*: from then on `open` of it is ESTALE,
        its name leads to a new node with the same ``ino``, and every other method on the stale node acts on the new one."""

    def leave_behind(self, node: int) -> None:
        """The opens of ``node`` are of another real file than the one that its name leads to: that gets a node of its own, as
        where a copy-up finds the node pinned."""

    def unpin(self, node: int) -> None:
        """The end of a `pin`.  Never raises."""

    def backing_fd(self, node: int) -> int:
        """A descriptor of the node's real file, opened for reading only, for FUSE_DEV_IOC_BACKING_OPEN.  Owned by the
        filesystem: use it before the next call of any method."""

    def read(self, node: int, offset: int, size: int) -> bytes | memoryview:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file.  Valid until the next call of a method."""

    def write(self, node: int, offset: int, data: bytes | memoryview, kill_suidgid: bool = False) -> int:
        """Write all of ``data`` (valid until the call returns); how many bytes were written.  ``kill_suidgid``: drop the set-id
        bits as well."""

    def copy_file_range(self, source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
        """copy_file_range(2): how many bytes were copied, fewer than ``length`` also before the end of the file (0: at its end).

        Shares blocks where the filesystem can.  EXDEV or EOPNOTSUPP where that of the layers cannot copy: read and write then."""

    def fallocate(self, node: int, offset: int, length: int, mode: int) -> None:
        """fallocate(2); all the modes that the filesystem of the upper has."""

    def lseek(self, node: int, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE only."""

    def fsync(self, node: int, datasync: bool) -> None:
        """fsync(2) of a file or a directory, fdatasync(2) with ``datasync``."""

    # -- directories --------------------------------------------------------------------------------------------------

    def readdir(self, node: int, offset: int) -> Iterable[DirRow]:
        """The rows of a directory after ``offset`` (0: from the start), ``.`` and ``..`` first.  Offsets stay good while names
        come and
        go: no name that stays is left out or listed twice.  Rows have no ``entry``."""

    def readdirplus(self, node: int, offset: int) -> Iterable[DirRow]:
        """The same with ``entry``: each row taken from the iterator counts one nlookup, so take no row that you have no room for
        (`unread` gives one back)."""

    def unread(self, row: DirRow) -> None:
        """Take back the nlookup of a `readdirplus` row that was taken but not passed on."""

    # -- extended attributes -----------------------------------------------------------------------------------------

    def getxattr(self, node: int, name: bytes) -> bytes:
        """Value of an extended attribute; ENODATA where there is none."""

    def setxattr(self, node: int, name: bytes, value: bytes, flags: int) -> None:
        """setxattr(2): ``flags`` is 0, XATTR_CREATE or XATTR_REPLACE."""

    def listxattr(self, node: int, caller: Caller) -> Sequence[bytes]:
        """The names, without the union's own; ``trusted.`` ones only for a privileged caller (as kernel filesystems do)."""

    def removexattr(self, node: int, name: bytes) -> None:
        """Remove an extended attribute; ENODATA where there is none."""

    # -- the whole ------------------------------------------------------------------------------------------------------

    def give_way(self) -> bool:
        """A method failed because the process has no descriptor left (EMFILE): close some that can be opened again.  Whether any
        were, so that calling the method again makes sense.  Never raises."""

    def statistics(self) -> dict[str, int]:
        """Counters and cache sizes for ``unionfs status``: names as ``copy_ups``, ``inodes``; all ints."""

    def explain(self, path: bytes) -> dict[str, Any]:
        """Where the object at ``path`` (relative to the root, ``b""`` for the root itself) comes from; JSON-able.  Keys:
        ``path``, ``type`` (as in ``find -type``, with ``whiteout`` and ``missing`` besides), ``layer`` (``upper``, ``lower[3]``),
        ``real_path``, ``copied_up`` (bool), ``merged`` (list of the layers that a directory merges), ``data`` (None, or for a
        metadata-only copy ``{"layer", "real_path"}`` of its data; ``layer`` is None if no data-only layer has it), ``hides``
        (list of ``{"layer", "real_path", "type"}`` below)."""

    def close(self) -> None:
        """Give every descriptor back.  No method may be called afterwards."""
