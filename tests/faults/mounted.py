"""A union whose upper is on a small filesystem of its own, which can be filled up, run out of inodes and be made read-only."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.mounts import Backend, run_unionfs
from tests.overlay.client import build

POLL = 0.01
"""Seconds between two looks for something that comes by itself."""
DEADLINE = 20.0
BIG = b"b" * 100_000


class SmallUpper:
    """``disk`` is mounted by the caller; `start` mounts the union over it."""

    def __init__(self, top: Path, backend: Backend) -> None:
        self.backend = backend
        self.disk = build(top / "disk", {})
        self.merged = build(top / "merged", {})
        self.lower = build(
            top / "lower", {"d/big": BIG, "d/small": b"small", "d/gone": b"gone", "deep/er/file": b"file", "deep/er/other": b""}
        )

    def start(self) -> None:
        """Mount it."""
        upper, work = build(self.disk / "upper", {}), build(self.disk / "work", {})
        self.backend.mount([self.lower], upper, work, self.merged, ("redirect_dir=on", "index=on"))

    def stop(self) -> None:
        """Unmount it."""
        self.backend.umount(self.merged)

    def tree(self) -> dict[str, tuple[object, ...]]:
        """All that programs see, but for times."""
        found: dict[str, tuple[object, ...]] = {}
        for path in sorted(self.merged.rglob("*")):
            st = path.lstat()
            contents = path.read_bytes() if path.is_file() else None
            found[os.fspath(path.relative_to(self.merged))] = (
                st.st_mode,
                st.st_uid,
                st.st_ino,
                contents,
                sorted(os.listxattr(path)),
            )
        return found

    def fill(self, name: str) -> Path:
        """Write to a file until there is no room left; what can be had in small pieces too."""
        path = self.merged / name
        with path.open("ab", buffering=0) as file:
            for size in (1 << 16, 512):
                while number(lambda size=size: file.write(b"x" * size)) == 0:  # type: ignore[misc]
                    pass
            assert number(lambda: file.write(b"x" * 512)) == errno.ENOSPC
        return path

    def check(self) -> None:
        """Nothing is wrong on disk; the union is not mounted."""
        run_unionfs(["check", "-l", self.lower, "-w", self.disk / "work", self.disk / "upper"])


def number(call: Callable[[], object]) -> int:
    """Run it; the number of its error, 0 if it has none."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


def until_done(call: Callable[[], object], *, but: int) -> None:
    """Call until it succeeds; until then it may get the error ``but``.

    The kernel tells of the end of a file (FORGET) a moment after unlink(2) has returned, and its room is free only then."""
    deadline = time.monotonic() + DEADLINE
    while (found := number(call)) != 0:
        assert found == but, errno.errorcode[found]
        assert time.monotonic() < deadline, f"still {errno.errorcode[but]}"
        time.sleep(POLL)


def mount_ext4(image: Path, directory: Path, size: int, inodes: int) -> None:
    """A new ext4 of ``size`` bytes, all of it for everybody."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(inodes), image], check=True)
    subprocess.run(["mount", "-o", "loop", image, directory], check=True)


def remount(directory: Path, option: str) -> None:
    """Remount with ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{option}", directory], check=True)


def umount(directory: Path) -> None:
    """Unmount."""
    subprocess.run(["umount", directory], check=True)


def no_more_files(pid: int) -> Callable[[], object]:
    """Let a process open no more files than it has open; returns what undoes that."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lowest_free = next(number for number in range(limits[0]) if not os.path.lexists(f"/proc/{pid}/fd/{number}"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
