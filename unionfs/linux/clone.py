"""Copies of files that share their blocks (reflinks)."""

from __future__ import annotations

import fcntl

_FICLONE = 0x40049409  # _IOW(0x94, 9, int), include/uapi/linux/fs.h


def clone_range(dst_fd: int, src_fd: int) -> None:
    """Make ``dst_fd`` a reflink of all of ``src_fd``, holes included.

    Raises:
        OSError: EOPNOTSUPP (ENOTTY on some filesystems: cannot do it), EXDEV (two filesystems), EINVAL (swap file, or not
            both regular files), EBADF (``dst_fd`` not open for writing, or opened with O_APPEND), ENOSPC.
    """
    fcntl.ioctl(dst_fd, _FICLONE, src_fd)
