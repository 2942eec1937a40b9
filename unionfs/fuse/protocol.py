"""The numbers of the kernel's FUSE protocol: opcodes, flags, ioctls.  Source: include/uapi/linux/fuse.h of Linux 6.18 (7.45)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

KERNEL_VERSION = 7
KERNEL_MINOR_VERSION = 45
"""The newest minor version we know.  The one in use is the smaller of ours and the kernel's."""
PRUNE_MINOR_VERSION = 45
"""Linux 6.18: the first that knows `NotifyCode.PRUNE`."""
EPOCH_MINOR_VERSION = 44
"""The first that knows `NotifyCode.INC_EPOCH`."""
OLDEST_MINOR_VERSION = 31
"""Linux 5.4.  Older kernels have shorter structures, and neither MAX_PAGES nor CACHE_SYMLINKS nor NO_OPENDIR_SUPPORT."""


class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


class InitFlag(IntFlag):
    """What kernel and server agree on in INIT.  Bits from 32 on travel in ``flags2``, and count only along with `INIT_EXT`."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    FILE_OPS = 1 << 2
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    SPLICE_WRITE = 1 << 7
    SPLICE_MOVE = 1 << 8
    SPLICE_READ = 1 << 9
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    MAP_ALIGNMENT = 1 << 26
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    SECURITY_CTX = 1 << 32
    HAS_INODE_DAX = 1 << 33
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40
    OVER_IO_URING = 1 << 41
    REQUEST_TIMEOUT = 1 << 42


class OpenFlag(IntFlag):
    """``FOPEN_*``: how the kernel shall treat an open file or directory."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6
    PASSTHROUGH = 1 << 7


class NotifyCode(IntEnum):
    """What a message that answers no request tells the kernel."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    RESEND = 7
    INC_EPOCH = 8
    PRUNE = 9


OPEN_KILL_SUIDGID = 1 << 0
"""``open_flags`` of OPEN and CREATE: the truncation drops the set-id bits."""
WRITE_CACHE = 1 << 0
"""``write_flags`` of WRITE: written back from the page cache, some time after the caller wrote."""
WRITE_KILL_SUIDGID = 1 << 2
"""``write_flags`` of WRITE."""
SETXATTR_ACL_KILL_SGID = 1 << 0
"""``setxattr_flags`` of SETXATTR: the caller may not keep the set-group-id bit when changing this ACL."""
FSYNC_FDATASYNC = 1 << 0
"""``fsync_flags`` of FSYNC and FSYNCDIR."""
GETATTR_FH = 1 << 0
"""``getattr_flags`` of GETATTR: on behalf of an open file, by write(2), read(2) at the end or lseek(2), but not by fstat(2)."""

IOC_BACKING_OPEN = 0x4010E501
"""_IOW(229, 1, struct fuse_backing_map).  The id is what ioctl(2) returns."""
IOC_BACKING_CLOSE = 0x4004E502
"""_IOW(229, 2, uint32_t)."""
