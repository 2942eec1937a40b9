"""A system mounted for one measurement, and taken away afterwards whatever has happened to it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unionfs.bench.daemon import Daemon
from unionfs.bench.errors import BenchError, TimeLimitError
from unionfs.bench.program import last_line
from unionfs.bench.systems import Layout, System
from unionfs.linux.mount import MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW, umount
from unionfs.linux.mountinfo import read_mountinfo

_UMOUNT_LIMIT = 60.0
"""Seconds; pages that the kernel has still to write through the daemon take their time."""

_END_LIMIT = 10.0
"""Seconds for a daemon to end after its mount has gone."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """``seconds``: how long the mount commands took, to the return of the last one."""

    daemon: Daemon
    seconds: float


@contextlib.contextmanager
def mounted(system: System, layers: Sequence[Path], layout: Layout, limit: float) -> Iterator[Mounted]:
    """Make the directories of ``layout``, mount ``system`` there, and remove all of it in the end.

    Raises:
        TimeLimitError: A mount command ran longer than ``limit`` seconds.
        BenchError: One failed, or has mounted nothing.
    """
    layout.make(layers)
    try:
        started = time.perf_counter()
        try:
            for command in system.commands(layout, layers):
                _run(command, layout, limit)
        except BaseException:
            # A daemon that is just starting would mount after we have looked.
            kill_daemons(layout.directory)
            raise
        seconds = time.perf_counter() - started
        if system.mounts and not mount_points_below(layout.directory):
            raise BenchError(f"{system.name}: the command has ended and nothing is mounted")
        yield Mounted(Daemon(layout.directory), seconds)
    finally:
        _take_away(layout)


def _run(command: Sequence[str | Path], layout: Layout, limit: float) -> None:
    # A file, not a pipe: a daemon may keep it open for ever.
    log = layout.directory / "mount.log"
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command,
                cwd=layout.names,
                env={**os.environ, **layout.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeLimitError(f"{command[0]}: no end after {limit:g} s") from None
        except OSError as error:
            raise BenchError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise BenchError(f"{command[0]}: exit status {done.returncode}: {last_line(log.read_bytes())}")


def mount_points_below(directory: Path) -> list[Path]:
    """What is mounted on or below ``directory``, the latest first.  Asks nothing of any of them."""
    points = [mount.mount_point for mount in read_mountinfo()]
    return [point for point in reversed(points) if point.is_relative_to(directory)]


def abort(layout: Layout) -> None:
    """End a mount that does not answer: everybody who waits for it gets an error."""
    kill_daemons(layout.directory)
    force_umount(layout.directory)


def kill_daemons(directory: Path) -> None:
    """End all that serve mounts on or below ``directory``, and wait for it: after that nothing changes there any more."""
    daemon = Daemon(directory)
    daemon.kill()
    daemon.wait_for_end(_END_LIMIT)


def force_umount(directory: Path) -> None:
    """Detach all that is mounted on or below ``directory``, in use or not; a FUSE connection is aborted."""
    for point in mount_points_below(directory):
        try:
            umount(os.fsencode(point), MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: its daemon has unmounted it in the meantime
                raise


def _take_away(layout: Layout) -> None:
    daemon = Daemon(layout.directory)
    for point in mount_points_below(layout.directory):
        _umount(point, layout)
    if not daemon.wait_for_end(_END_LIMIT):
        kill_daemons(layout.directory)
    force_umount(layout.directory)
    shutil.rmtree(layout.directory)


def _umount(point: Path, layout: Layout) -> None:
    # Not by umount2(2) in this process: it waits for a daemon that may be stuck.
    with subprocess.Popen(["umount", "--no-canonicalize", point], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        try:
            program.wait(_UMOUNT_LIMIT)
        except subprocess.TimeoutExpired:
            abort(layout)
    if program.returncode:
        # In use, by something that a workload has left running.
        force_umount(point)
