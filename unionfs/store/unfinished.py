"""Files and directories in the making beside their target, which they become in one step.

A file has no name until then where the filesystem can do that (O_TMPFILE of open(2)): of a process that is killed nothing is
left.  Otherwise, and for directories, it is called ``.TARGET.PID-START-RANDOM.part`` and locked by its maker; whoever makes
something in the same directory later removes what nobody holds any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unionfs.linux.rename import RENAME_NOREPLACE, renameat2
from unionfs.mounter.processes import is_running, start_time
from unionfs.store.errors import ExistsError
from unionfs.store.full_disk import naming_a_full_disk
from unionfs.store.staging import sync_names

_AT_FDCWD = -100
_MODE = 0o666
_LEFT = re.compile(r"\..+\.(\d+)-(\d+)-[0-9a-z_]{8}\.part")
_NO_TMPFILE = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL))
"""open(2): filesystems and kernels without it.  ENOENT is that of a directory that is not there too, which mkstemp() tells."""


@contextlib.contextmanager
def unfinished_file(target: Path, *, replace: bool = False) -> Iterator[int]:
    """A descriptor of what becomes ``target`` at the end of the block, with all that was written to it; gone where that fails.

    ``replace``: a file that is there stays until then and goes; it is an error otherwise.

    Raises:
        ExistsError: there is something.
        StoreError: the disk is full.
        OSError: it cannot be made otherwise.
    """
    if not replace:
        _refuse_existing(target)
    _collect(target.parent)
    # A file without a name cannot take that of another one (linkat(2)).
    fd, name = _open_named(target) if replace else _open_file(target)
    try:
        with naming_a_full_disk(str(target), target.parent):
            yield fd
            os.fsync(fd)
        if name is None:
            _link(fd, target)
        elif replace:
            name.rename(target)
        else:
            _rename(name, target)
        sync_names(target.parent)
    except BaseException:
        if name is not None:
            name.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


@contextlib.contextmanager
def unfinished_directory(target: Path) -> Iterator[Path]:
    """A directory that becomes ``target`` at the end of the block; what is in it the caller has synced.  It is removed where the
    block fails.

    Raises:
        ExistsError: there is something.
        StoreError: the disk is full.
        OSError: it cannot be made otherwise.
    """
    _refuse_existing(target)
    _collect(target.parent)
    directory = Path(tempfile.mkdtemp(prefix=_prefix(target), suffix=".part", dir=target.parent))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with naming_a_full_disk(str(target), target.parent):
            yield directory
        _rename(directory, target)
        sync_names(target.parent)
    except BaseException:
        if directory.exists():
            shutil.rmtree(directory)
        raise
    finally:
        os.close(fd)


def _prefix(target: Path) -> str:
    pid = os.getpid()
    return f".{target.name}.{pid}-{start_time(pid)}-"


def _open_file(target: Path) -> tuple[int, Path | None]:
    try:
        return os.open(target.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _MODE), None
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    return _open_named(target)


def _open_named(target: Path) -> tuple[int, Path]:
    fd, name = tempfile.mkstemp(prefix=_prefix(target), suffix=".part", dir=target.parent)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.fchmod(fd, _MODE & ~umask())
    return fd, Path(name)


def umask() -> int:
    """That of the process."""
    # There is no other way to ask for it; nobody else makes files in this process meanwhile.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# -- giving it its name ---------------------------------------------------------------------------------------------------


def _link(fd: int, target: Path) -> None:
    # With a descriptor Python calls linkat(2), which alone can follow the link (os.link() without one does not).
    directory = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(fd), target, src_dir_fd=directory, follow_symlinks=True)
    except FileExistsError as error:
        raise _exists(target) from error
    finally:
        os.close(directory)


def _rename(made: Path, target: Path) -> None:
    try:
        renameat2(_AT_FDCWD, os.fsencode(made), _AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Filesystems without the flag (NFS): between looking and renaming somebody else's file could come, and would be lost.
        _refuse_existing(target)
        made.rename(target)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise _exists(target)


def _exists(target: Path) -> ExistsError:
    return ExistsError(str(target), "is there already", "name another file, or remove it first")


# -- what is left of others -----------------------------------------------------------------------------------------------


def _collect(directory: Path) -> None:
    for path in _left_in(directory):
        _remove_unheld(path)


def _left_in(directory: Path) -> list[Path]:
    """Those of makers that are gone, and of ours: a directory like /tmp has those of others too."""
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries if _is_left(entry)]
    except PermissionError:
        return []  # one may make files in a directory that one may not list


def _is_left(entry: os.DirEntry[str]) -> bool:
    match = _LEFT.fullmatch(entry.name)
    if match is None or is_running(int(match[1]), int(match[2])):
        return False
    with contextlib.suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    return False


def _remove_unheld(path: Path) -> None:
    """A maker in another pid namespace is told by its lock alone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # another export was faster, or it is none of ours (a link)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(fd)
