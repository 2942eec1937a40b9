"""Mounting the kernel's OverlayFS by the "new mount API": fsopen(2), fsconfig(2), fsmount(2), move_mount(2).

mount(2) takes one page of options, which a stack of some forty layers fills; here each layer is an option of
its own (``lowerdir+``, Linux 6.5), with no colon or comma in a name to escape.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from ctypes import c_char_p, c_int, c_long, c_uint
from pathlib import Path

from unionfs.linux.libc import last_error, libc

LONGEST_VALUE = 255
"""Bytes of one value at most: fsconfig(2) copies 256 with the NUL (fs/fsopen.c)."""

# The wrappers are in glibc since 2.36 only; the numbers are the same on every architecture (asm-generic/unistd.h).
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 429, 430, 431, 432
_FSOPEN_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_FSMOUNT_CLOEXEC = 1
_MOUNT_ATTR_RDONLY = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_AT_FDCWD = -100
_MESSAGE_SIZE = 4096

_syscall = libc.syscall
_syscall.restype = c_long


class OverlayMountError(OSError):
    """The kernel refused; ``strerror`` has what it says about why, ``filename`` is the mount point."""


def mount_overlay(options: Sequence[tuple[str, str | None]], source: str, target: Path, *, read_only: bool = False) -> None:
    """Mount an overlay on ``target``.

    ``options`` are those of the filesystem in their order, (name, value), the value None for a word; ``source`` is what mountinfo
    shows as the source.

    Raises:
        OverlayMountError: EPERM (no CAP_SYS_ADMIN), ENODEV (no OverlayFS in this kernel), EINVAL (an option), ENOENT,
            ENAMETOOLONG (a value of more than `LONGEST_VALUE` bytes), EBUSY, ELOOP (too deep a stack of overlays).
    """
    context = -1
    try:
        context = _call(_SYS_FSOPEN, c_char_p(b"overlay"), c_uint(_FSOPEN_CLOEXEC))
        for name, value in [("source", source), *options]:
            _configure(context, name, value)
        _call(_SYS_FSCONFIG, c_int(context), c_uint(_FSCONFIG_CMD_CREATE), None, None, c_int(0))
        _attach(context, target, read_only)
    except OSError as error:
        said = _messages(context) if context >= 0 else ""
        problem = os.strerror(error.errno or errno.EIO) + (f" ({said})" if said else "")
        raise OverlayMountError(error.errno or errno.EIO, problem, os.fspath(target)) from error
    finally:
        if context >= 0:
            os.close(context)


def _configure(context: int, name: str, value: str | None) -> None:
    if value is None:
        _call(_SYS_FSCONFIG, c_int(context), c_uint(_FSCONFIG_SET_FLAG), c_char_p(name.encode()), None, c_int(0))
        return
    encoded = os.fsencode(value)
    if len(encoded) > LONGEST_VALUE:
        # The kernel would say EINVAL, as for everything.
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), value)
    _call(_SYS_FSCONFIG, c_int(context), c_uint(_FSCONFIG_SET_STRING), c_char_p(name.encode()), c_char_p(encoded), c_int(0))


def _attach(context: int, target: Path, read_only: bool) -> None:
    attributes = _MOUNT_ATTR_RDONLY if read_only else 0
    mount = _call(_SYS_FSMOUNT, c_int(context), c_uint(_FSMOUNT_CLOEXEC), c_uint(attributes))
    try:
        path = c_char_p(os.fsencode(target))
        _call(_SYS_MOVE_MOUNT, c_int(mount), c_char_p(b""), c_int(_AT_FDCWD), path, c_uint(_MOVE_MOUNT_F_EMPTY_PATH))
    finally:
        os.close(mount)


def _call(number: int, *arguments: c_int | c_uint | c_char_p | None) -> int:
    result: int = _syscall(c_long(number), *arguments)
    if result < 0:
        raise last_error()
    return result


def _messages(context: int) -> str:
    """What the kernel left to read on a context: why it refused, one message a read (Documentation/filesystems/mount_api.rst)."""
    lines: list[str] = []
    while True:
        try:
            lines.append(os.read(context, _MESSAGE_SIZE).decode(errors="replace").strip())
        except OSError:  # ENODATA: no more of them
            return "; ".join(lines)
