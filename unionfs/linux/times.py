"""utimensat(2), with its "now" and "leave it": ``os.utime`` has both or none of them."""

from __future__ import annotations

from ctypes import Structure, c_char_p, c_int, c_long

from unionfs.linux.libc import last_error, libc

# include/linux/stat.h; not times in nanoseconds but values of tv_nsec.
_UTIME_NOW = (1 << 30) - 1
_UTIME_OMIT = (1 << 30) - 2
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_SECOND = 10**9

NOW = "now"
"""The time of the call, by the kernel's own clock: what a write at this moment would set."""


class _Timespec(Structure):
    _fields_ = (("tv_sec", c_long), ("tv_nsec", c_long))


_utimensat = libc.utimensat
_utimensat.argtypes = (c_int, c_char_p, _Timespec * 2, c_int)
_futimens = libc.futimens
_futimens.argtypes = (c_int, _Timespec * 2)


def set_times(target: int | bytes, atime: int | str | None, mtime: int | str | None, follow_symlinks: bool = False) -> None:
    """Set the times of ``target``, a path or a descriptor: nanoseconds since the epoch, `NOW`, or None to leave one as it is.

    Raises:
        OSError: EPERM, EACCES (not the owner), ENOENT, EROFS.
    """
    times = (_Timespec * 2)(_timespec(atime), _timespec(mtime))
    if isinstance(target, int):
        if _futimens(target, times):
            raise last_error()
    elif _utimensat(_AT_FDCWD, target, times, 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW):
        raise last_error(target)


def _timespec(time: int | str | None) -> _Timespec:
    if time is None:
        return _Timespec(0, _UTIME_OMIT)
    if isinstance(time, str):
        return _Timespec(0, _UTIME_NOW)
    return _Timespec(*divmod(time, _SECOND))
