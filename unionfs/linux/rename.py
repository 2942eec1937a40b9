"""renameat2(2): rename with flags."""

from __future__ import annotations

from ctypes import c_char_p, c_int, c_uint

from unionfs.linux.libc import last_error, libc

# include/uapi/linux/fs.h
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

_renameat2 = libc.renameat2
_renameat2.argtypes = (c_int, c_char_p, c_int, c_char_p, c_uint)


def renameat2(src_dir_fd: int, src: bytes, dst_dir_fd: int, dst: bytes, flags: int) -> None:
    """Rename ``src`` in one directory to ``dst`` in another; ``flags`` is a set of ``RENAME_*`` bits.

    With `RENAME_WHITEOUT` a character device 0:0 takes the place of ``src``.

    Raises:
        OSError: as rename(2); besides EEXIST (NOREPLACE and ``dst`` exists), ENOENT (EXCHANGE and ``dst`` does not exist),
            EINVAL (flags unknown to the filesystem, or NOREPLACE with EXCHANGE), EPERM (WHITEOUT without CAP_MKNOD).
    """
    if _renameat2(src_dir_fd, src, dst_dir_fd, dst, flags):
        raise last_error(src, dst)
