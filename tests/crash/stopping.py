"""Stops a process before each of its system calls that change something on disk, to look at what is there, or to kill it.

A seccomp filter (seccomp(2), SECCOMP_RET_USER_NOTIF) hands those calls to us: of all threads and children, of C libraries too.
Sources: include/uapi/linux/seccomp.h, filter.h, audit.h; arch/x86/entry/syscalls/syscall_64.tbl.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Iterator

from unionfs.linux.libc import last_error, libc

_CALLS = {
    "write": 1, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77,
    "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91,
    "chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "mknod": 133, "mount": 165, "umount2": 166, "setxattr": 188,
    "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "utimes": 235,
    "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261, "unlinkat": 263, "renameat": 264, "linkat": 265,
    "symlinkat": 266, "fchmodat": 268, "splice": 275, "sync_file_range": 277, "utimensat": 280, "fallocate": 285,
    "pwritev": 296, "syncfs": 306, "renameat2": 316, "copy_file_range": 326, "pwritev2": 328, "move_mount": 429, "openat2": 437,
    "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
}  # fmt: skip
_OPENING = {"open": (2, 1), "openat": (257, 2)}
"""With the position of the flags among the arguments."""
_IOCTL = 16
_IOCTLS = {
    "FICLONE": 0x40049409, "FICLONERANGE": 0x4020940D, "FS_IOC_SETFLAGS": 0x40086602, "FS_IOC_FSSETXATTR": 0x401C5820,
    "BTRFS_IOC_SNAP_CREATE": 0x50009401, "BTRFS_IOC_SUBVOL_CREATE": 0x5000940E, "BTRFS_IOC_SNAP_DESTROY": 0x5000940F,
}  # fmt: skip
_NAMES = {number: name for name, number in _CALLS.items()} | {number: name for name, (number, _) in _OPENING.items()}
_CHANGING_FLAGS = os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)

_ARCHITECTURE = 0xC000003E  # AUDIT_ARCH_X86_64
_LOAD, _IF_EQUAL, _IF_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER = 317, 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTICE = struct.Struct("=QIIiIQ6Q")
"""``struct seccomp_notif``: id, pid, flags, then ``struct seccomp_data``: nr, arch, instruction_pointer, args."""
_RESPONSE = struct.Struct("=QqiI")
_LONGEST_MESSAGE = 100_000

Act = Callable[[], object]


class FailedError(AssertionError):
    """The process ended of itself, and not well; the text is its traceback."""


def stops(begin: Callable[[], Act]) -> Iterator[str]:
    """Call what ``begin`` returns, in a child; yields the name of each changing system call before it is made.

    ``begin`` runs in the child too, but is not stopped.  When the iterator is closed, the child and its children are killed.

    Raises:
        FailedError: the call raised.
        OSError: EPERM: only root may.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.closing(ours):
        pid = os.fork()
        if pid == 0:
            ours.close()
            _run(begin, theirs)
        theirs.close()
        with _Processes(pid) as processes:
            yield from _listen(ours, processes)
        _raise_failure(ours)


def kill_at(begin: Callable[[], Act], point: int) -> str | None:
    """Call what ``begin`` returns, in a child that is killed before its changing system call number ``point`` (from 0); the name
    of that.  None: it made fewer, and came to its end.

    Raises:
        FailedError, OSError: as `stops`.
    """
    with contextlib.closing(stops(begin)) as calls:  # type: ignore[type-var]
        for number, name in enumerate(calls):
            if number == point:
                return name
    return None


def run(begin: Callable[[], Act]) -> None:
    """Call what ``begin`` returns, in a child that is left alone.

    Raises:
        FailedError, OSError: as `stops`.
    """
    for _ in stops(begin):
        pass


# -- in the child ---------------------------------------------------------------------------------------------------------


def _run(begin: Callable[[], Act], channel: socket.socket) -> None:
    status = 1
    try:
        os.setsid()
        act = begin()
        listener = _install(_filter())
        socket.send_fds(channel, [b"listener"], [listener])
        os.close(listener)
        act()
        status = 0
    except BaseException:
        channel.send(traceback.format_exc().encode()[-_LONGEST_MESSAGE:])
    finally:
        os._exit(status)


def _filter() -> bytes:
    if platform.machine() != "x86_64":
        raise OSError(errno.ENOSYS, "the numbers of system calls are known for x86_64 only", platform.machine())
    instructions = [_step(_LOAD, 4), _step(_IF_EQUAL, _ARCHITECTURE, 1), _step(_RETURN, _ALLOW), _step(_LOAD, 0)]
    for number in _CALLS.values():
        instructions += [_step(_IF_EQUAL, number, 0, 1), _step(_RETURN, _NOTIFY)]
    for number, flags in _OPENING.values():
        instructions += _where_argument(number, flags, [_step(_IF_BITS, _CHANGING_FLAGS, 0, 1)])
    for request in _IOCTLS.values():
        instructions += [_step(_IF_EQUAL, _IOCTL, 0, 4), _step(_LOAD, 24)]
        instructions += [_step(_IF_EQUAL, request, 0, 1), _step(_RETURN, _NOTIFY), _step(_LOAD, 0)]
    return b"".join([*instructions, _step(_RETURN, _ALLOW)])


def _where_argument(number: int, position: int, condition: list[bytes]) -> list[bytes]:
    """Notify of a call whose argument (the lower half) meets a condition."""
    block = [_step(_LOAD, 16 + 8 * position), *condition, _step(_RETURN, _NOTIFY), _step(_RETURN, _ALLOW)]
    return [_step(_IF_EQUAL, number, 0, len(block)), *block]


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """``struct sock_filter``."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _install(program: bytes) -> int:
    buffer = ctypes.create_string_buffer(program, len(program))
    description = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    listener: int = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, description)
    if listener < 0:
        raise last_error()
    return listener


# -- in the parent --------------------------------------------------------------------------------------------------------


class _Processes:
    """The child and all of its children that were ever stopped, to be killed at the end."""

    def __init__(self, child: int) -> None:
        self._child = child
        self._fds = {child: os.pidfd_open(child)}

    def add(self, thread: int) -> None:
        """The process of a thread that is stopped just now."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{thread}/status") as lines:
                pid = next(int(line.split()[1]) for line in lines if line.startswith("Tgid:"))
            if pid not in self._fds:
                self._fds[pid] = os.pidfd_open(pid)

    def kill(self) -> None:
        """Those that still run.  By descriptors: a number may be somebody else's by now."""
        for fd in self._fds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        os.waitpid(self._child, 0)
        for fd in self._fds.values():
            os.close(fd)


def _listen(channel: socket.socket, processes: _Processes) -> Iterator[str]:
    failure, listeners, _, _ = socket.recv_fds(channel, _LONGEST_MESSAGE, 1)
    if not listeners:
        raise FailedError(failure.decode())
    listener = listeners[0]
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    try:
        while not poll.poll()[0][1] & select.POLLHUP:
            notice = bytearray(_NOTICE.size)
            with contextlib.suppress(FileNotFoundError):  # somebody else has ended the process meanwhile
                fcntl.ioctl(listener, _RECEIVE, notice)
                number, thread, _, call, *_ = _NOTICE.unpack(notice)
                processes.add(thread)
                yield _NAMES.get(call, "ioctl")
                fcntl.ioctl(listener, _SEND, bytearray(_RESPONSE.pack(number, 0, 0, _CONTINUE)))
    finally:
        # First the processes: a call that nobody answers any more fails, and they would go on.
        processes.kill()
        os.close(listener)


def _raise_failure(channel: socket.socket) -> None:
    channel.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        failure = channel.recv(_LONGEST_MESSAGE)
        if failure:
            raise FailedError(failure.decode())
