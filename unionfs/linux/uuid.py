"""UUIDs of filesystems."""

from __future__ import annotations

import errno
import fcntl
import struct

_FS_IOC_GETFSUUID = 0x80111500  # _IOR(0x15, 0, struct fsuuid2), include/uapi/linux/fs.h, Linux 6.9
_FSUUID2 = struct.Struct("B16s")

NO_UUID = bytes(16)


def filesystem_uuid(fd: int) -> bytes:
    """The 16 bytes of the UUID of the filesystem that ``fd`` is open on; `NO_UUID` if it has none or the kernel cannot tell."""
    answer = bytearray(_FSUUID2.size)
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFSUUID, answer)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF):
            return NO_UUID
        raise
    length, uuid = _FSUUID2.unpack(answer)
    return bytes(uuid) if length == len(NO_UUID) else NO_UUID
