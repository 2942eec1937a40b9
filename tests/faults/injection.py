"""Makes one system call of an operation fail, or all from one on, with an error number of choice.

All calls are met by which the overlay package works on its layers: those of ``os``, those of `unionfs.linux` in whichever module
they were imported into, and the two of `Path` that open files in C.  Which errors a call may get is a matter of its kind: a
``stat`` does not meet a full disk.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from unionfs.linux import allocate, clone, handles, links, rename, statx, times


class Kind(enum.Flag):
    """What a call does, as far as it decides about the errors that it may get."""

    READS = 0
    CHANGES = enum.auto()
    """The filesystem is another one afterwards."""
    ALLOCATES = enum.auto()
    """It may need room on the disk."""
    OPENS = enum.auto()
    """It gives a descriptor."""
    WRITES = enum.auto()
    """It opens for writing: that is refused on a read-only filesystem, though nothing has changed."""


_NEW = Kind.CHANGES | Kind.ALLOCATES

_OF_OS = {
    **dict.fromkeys(("mkdir", "mknod", "symlink", "link", "rename", "setxattr"), _NEW),
    **dict.fromkeys(("pwrite", "write", "ftruncate", "copy_file_range"), _NEW),
    # Owner, mode and times have room in the inode; a quota may speak against another owner.
    **dict.fromkeys(("unlink", "rmdir", "chmod", "fchmod", "chown", "fchown", "utime", "removexattr"), Kind.CHANGES),
    # Room that was only promised is found missing here (delayed allocation, NFS).
    **dict.fromkeys(("fsync", "fdatasync"), Kind.ALLOCATES),
    # Of a directory: each opens it for itself.
    **dict.fromkeys(("dup", "listdir", "scandir"), Kind.OPENS),
    **dict.fromkeys(("stat", "fstat", "getxattr", "listxattr", "readlink", "pread", "preadv", "lseek"), Kind.READS),
}  # fmt: skip

_OURS: dict[Callable[..., Any], Kind] = {
    allocate.fallocate: _NEW,
    clone.clone_range: _NEW,
    links.link_fd: _NEW,
    rename.renameat2: _NEW,
    times.set_times: Kind.CHANGES,
    handles.open_by_handle_at: Kind.OPENS,
    handles.name_to_handle_at: Kind.READS,
    statx.birth_time: Kind.READS,
}


def _kind_of_open(flags: int) -> Kind:
    if flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE:
        return Kind.OPENS | Kind.WRITES | _NEW
    return Kind.OPENS | Kind.WRITES if flags & os.O_ACCMODE != os.O_RDONLY else Kind.OPENS


ERRORS: dict[int, Callable[[Kind], bool]] = {
    errno.ENOSPC: lambda kind: Kind.ALLOCATES in kind,
    errno.EDQUOT: lambda kind: bool(kind & (Kind.ALLOCATES | Kind.CHANGES)),
    errno.EIO: lambda _: True,
    errno.EMFILE: lambda kind: Kind.OPENS in kind,
    errno.ENOMEM: lambda _: True,
    errno.EROFS: lambda kind: bool(kind & (Kind.CHANGES | Kind.WRITES)),
}
"""The errors that are tried, and which kinds of calls may get each."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong: call ``at`` (from 0) of those of any kind gets the error ``number``; so do all later ones that may, if it
    ``lasts``."""

    number: int
    at: int
    lasts: bool = False


@dataclass
class Injected:
    """What came of it: the calls that were made, each with its kind, and which failed."""

    fault: Fault | None
    calls: list[tuple[str, Kind]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def call(self, name: str, kind: Kind) -> None:
        """A call is about to be made.

        Raises:
            OSError: it shall fail.
        """
        fault, position = self.fault, len(self.calls)
        self.calls.append((name, kind))
        if fault is None or position < fault.at or not ERRORS[fault.number](kind):
            return
        if position == fault.at or fault.lasts:
            self.failed.append(name)
            raise OSError(fault.number, os.strerror(fault.number), f"injected into {name}")


@contextlib.contextmanager
def injected(fault: Fault | None) -> Iterator[Injected]:
    """Within, ``fault`` happens; without one the calls are counted only."""
    found = Injected(fault)
    with guarded(found.call):
        yield found


@contextlib.contextmanager
def guarded(before: Callable[[str, Kind], None]) -> Iterator[None]:
    """Within, ``before`` is told of each call that is about to be made, by its name and kind."""

    def guard_of(name: str, kind: Kind, call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*args: Any, **options: Any) -> Any:
            before(name, kind)
            return call(*args, **options)

        return guard

    opening = os.open

    def guarded_open(path: Any, flags: int, *args: Any, **options: Any) -> int:
        before("open", _kind_of_open(flags))
        return opening(path, flags, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name, kind in _OF_OS.items():
            patch.setattr(os, name, guard_of(name, kind, getattr(os, name)))
        patch.setattr(os, "open", guarded_open)
        patch.setattr(Path, "write_text", guard_of("write_text", Kind.OPENS | Kind.WRITES | _NEW, Path.write_text))
        patch.setattr(Path, "read_text", guard_of("read_text", Kind.OPENS, Path.read_text))
        for module, name, function in _importers():
            patch.setattr(module, name, guard_of(name, _OURS[function], function))
        yield


def _importers() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Where the functions of `unionfs.linux` were imported by name: in those modules they must be replaced."""
    return [
        (module, function.__name__, function)
        for module_name, module in list(sys.modules.items())
        if module_name.startswith("unionfs.overlay.")
        for function in _OURS
        if getattr(module, function.__name__, None) is function
    ]
