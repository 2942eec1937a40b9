"""The ways a test can get a union mounted, all behind one interface: ours on each transport, and the kernel's own OverlayFS.

`KERNEL` is the oracle: what it does with a case is what ours must do.  `OURS` are the backends that a user can choose from.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from tests import preloaded
from tests.programs import UNIONFS, Ended, ProgramFailedError, describe, run
from unionfs.mounter.request import may_write_trusted_xattrs

USERXATTR = not may_write_trusted_xattrs()
"""Whether the tests run in a user namespace (`tests.rootless`): all mounts have ``userxattr`` then."""

OVERLAY_XATTRS = "user.overlay." if USERXATTR else "trusted.overlay."
"""What the names of the union's own attributes begin with."""

COMMAND_TIMEOUT = 60.0
"""Seconds; a mount or an unmount that takes longer hangs."""


class MountFailedError(Exception):
    """A mount or an unmount was refused; the text is what the command or the kernel said."""


class Backend(Protocol):
    """One way to mount a union.  ``lowers[0]`` is on top; ``upper`` and ``work`` None make a read-only union; ``data`` are
    data-only layers."""

    name: str

    def mount(
        self,
        lowers: Sequence[Path],
        upper: Path | None,
        work: Path | None,
        mountpoint: Path,
        options: Sequence[str] = (),
        data: Sequence[Path] = (),
    ) -> None:
        """Mount and return when the mount is ready.  ``options`` are mount(8) words (``ro``, ``redirect_dir=on``).

        Raises `MountFailedError`."""

    def umount(self, mountpoint: Path) -> None:
        """Unmount and return when everything of the mount has ended.  Raises `MountFailedError`."""


@dataclass(frozen=True)
class UnionfsBackend:
    """Our own mount, made by the ``unionfs`` command with a daemon of its own; ``arguments`` select transport and data path."""

    name: str
    arguments: tuple[str, ...]

    def mount(
        self,
        lowers: Sequence[Path],
        upper: Path | None,
        work: Path | None,
        mountpoint: Path,
        options: Sequence[str] = (),
        data: Sequence[Path] = (),
    ) -> None:
        command: list[str | Path] = ["mount", *self.arguments, *(f"--data={layer}" for layer in data)]
        for lower in lowers:
            command += ["-l", lower]
        if upper is not None:
            command += ["-u", upper]
        if work is not None:
            command += ["-w", work]
        words = list(options)
        if not any(word.startswith("redirect_dir") or word == "userxattr" for word in words):
            # The defaults of the kernel, which is what these backends are compared with; ours are "on".
            words.append("redirect_dir=off")
        if not any(word.startswith("index") for word in words):
            words.append("index=off")
        run_unionfs([*command, "-o", ",".join(words), mountpoint])

    def umount(self, mountpoint: Path) -> None:
        run_unionfs(["umount", mountpoint])


def run_unionfs(arguments: Sequence[str | Path]) -> str:
    """Run the ``unionfs`` command, preloaded, and return what it printed; `MountFailedError` if its exit status is not 0."""
    return _output_of(arguments, lambda: preloaded.run(arguments, limit=COMMAND_TIMEOUT))


def start_unionfs(arguments: Sequence[str | Path]) -> str:
    """The same, as a user does: the program is started."""
    return _output_of(arguments, lambda: run([UNIONFS, *arguments], status=None, limit=COMMAND_TIMEOUT))


def _output_of(arguments: Sequence[str | Path], run_it: Callable[[], Ended]) -> str:
    try:
        ended = run_it()
    except ProgramFailedError as slow:
        raise MountFailedError(str(slow)) from slow
    if ended.status:
        raise MountFailedError(describe(("unionfs", *arguments), ended))
    return ended.stdout


# System call numbers of the "new mount API": the same on every architecture (asm-generic/unistd.h).
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 429, 430, 431, 432
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_AT_FDCWD = -100
_MOUNT_ATTRIBUTES = {"nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x10}
_MNT_FORCE, _MNT_DETACH, _UMOUNT_NOFOLLOW = 1, 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _kernel_log(context: int) -> str:
    """What the kernel left to read on a filesystem context: why it refused, one message a read."""
    lines: list[str] = []
    while True:
        try:
            lines.append(os.read(context, 4096).decode(errors="replace").strip())
        except OSError:  # ENODATA: no more messages
            return "; ".join(lines)


@dataclass(frozen=True)
class KernelBackend:
    """``mount -t overlay``, by fsconfig(2): mount(2) takes one page of options only, and would need its colons escaped."""

    name: str = "kernel"

    def mount(
        self,
        lowers: Sequence[Path],
        upper: Path | None,
        work: Path | None,
        mountpoint: Path,
        options: Sequence[str] = (),
        data: Sequence[Path] = (),
    ) -> None:
        context = _syscall(_SYS_FSOPEN, b"overlay", 0)
        try:
            settings = [("lowerdir+", os.fspath(lower)) for lower in lowers]
            settings += [("datadir+", os.fspath(layer)) for layer in data]
            if upper is not None and work is not None:
                settings += [("upperdir", os.fspath(upper)), ("workdir", os.fspath(work))]
            attributes = 0
            for option in (*options, *(("userxattr",) if USERXATTR and "userxattr" not in options else ())):
                key, separator, value = option.partition("=")
                if key in _MOUNT_ATTRIBUTES:
                    attributes |= _MOUNT_ATTRIBUTES[key]
                elif separator:
                    settings.append((key, value))
                else:
                    _syscall(_SYS_FSCONFIG, context, _FSCONFIG_SET_FLAG, os.fsencode(key), None, 0)
            for key, value in settings:
                _syscall(_SYS_FSCONFIG, context, _FSCONFIG_SET_STRING, os.fsencode(key), os.fsencode(value), 0)
            _syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
            mount = _syscall(_SYS_FSMOUNT, context, 0, attributes)
            try:
                _syscall(_SYS_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(mountpoint), _MOVE_MOUNT_F_EMPTY_PATH)
            finally:
                os.close(mount)
        except OSError as error:
            raise MountFailedError(f"overlay on {mountpoint}: {error.strerror}: {_kernel_log(context)}") from error
        finally:
            os.close(context)

    def umount(self, mountpoint: Path) -> None:
        done = subprocess.run(["umount", mountpoint], capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False)
        if done.returncode:
            raise MountFailedError(done.stderr.strip())


DIRECT = UnionfsBackend("direct", ("--transport", "direct"))
DIRECT_CACHED = UnionfsBackend("direct-cached", ("--transport", "direct", "--data-path", "cached"))
PYFUSE3 = UnionfsBackend("pyfuse3", ("--transport", "pyfuse3"))
KERNEL = KernelBackend()

OURS: tuple[Backend, ...] = (DIRECT, DIRECT_CACHED, PYFUSE3)
ALL: tuple[Backend, ...] = (*OURS, KERNEL)


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo, as far as tests need it."""

    mountpoint: Path
    fstype: str


def mounts_under(directory: Path) -> Iterator[Mount]:
    """The mounts on or below ``directory``, the latest first: in the order in which they can be unmounted.

    Reads no path under any of them, so it is safe where a server does not answer."""
    for line in reversed(Path("/proc/self/mountinfo").read_bytes().splitlines()):
        fields = line.split()
        # proc(5): space, tab, newline and backslash stand as octal escapes.
        mountpoint = Path(os.fsdecode(fields[4].decode("unicode_escape").encode("latin-1")))
        if mountpoint == directory or directory in mountpoint.parents:
            yield Mount(mountpoint, fields[fields.index(b"-") + 1].decode())


def is_mounted(mountpoint: Path) -> bool:
    """Whether something is mounted exactly on ``mountpoint``."""
    return any(mount.mountpoint == mountpoint for mount in mounts_under(mountpoint))


def tear_down(mount: Mount) -> None:
    """Take a mount away that nobody unmounted, even one whose server hangs: all that waits for its answer gets an error."""
    # MNT_FORCE makes FUSE abort the connection (fs/fuse/inode.c, fuse_umount_begin()).  The same is to be had through
    # /sys/fs/fuse/connections, but not every machine has fusectl mounted there.
    flags = _MNT_FORCE | _MNT_DETACH | _UMOUNT_NOFOLLOW
    if _libc.umount2(os.fsencode(mount.mountpoint), flags) < 0:
        error = ctypes.get_errno()
        if error != errno.EINVAL:  # EINVAL: somebody has unmounted it in the meantime
            raise OSError(error, os.strerror(error), os.fspath(mount.mountpoint))
