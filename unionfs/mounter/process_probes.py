"""Probes of what the daemon may use: open files, CPUs, mounts that others see."""

from __future__ import annotations

import errno
import os
import resource

from unionfs.linux.namespaces import mount_namespace
from unionfs.mounter.finding import Finding, Probe

ENOUGH_OPEN_FILES = 4096
"""One descriptor a layer and one a file that is open and removed, half of the limit for directories that are kept open: this
is enough for 500 layers."""

_INIT = 1


def process_probes() -> list[Probe]:
    """The probes of this file."""
    return [
        Probe("open files", _open_files),
        Probe("CPUs", _cpus),
        Probe("mount namespace", lambda: compare_mount_namespace(_INIT)),
    ]


def _open_files() -> Finding:
    # The daemon raises the soft limit to the hard one itself.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= ENOUGH_OPEN_FILES:
        return Finding(True, "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard}")
    return Finding(
        False, f"at most {hard}", f"raise the hard limit to {ENOUGH_OPEN_FILES} or more (ulimit -Hn, LimitNOFILE= in systemd)"
    )


def _cpus() -> Finding:
    count = len(os.sched_getaffinity(0))
    if count > 1:
        return Finding(True, f"{count}: the daemon may busy-wait for requests")
    return Finding(False, "1: every request costs a wake-up of the daemon", "let the daemon run on two CPUs or more")


def compare_mount_namespace(pid: int) -> Finding:
    """Whether process ``pid`` sees the mounts that are made here."""
    try:
        private = mount_namespace() != mount_namespace(pid)
    except OSError as error:
        # EACCES needs no remedy: looking at a process with more capabilities is not allowed even to root (ptrace(2)).
        remedy = None if error.errno == errno.EACCES else "mount proc on /proc"
        return Finding(remedy is None, f"not known: {error.filename}: {error.strerror}", remedy)
    if private:
        return Finding(
            False,
            f"not that of process {pid}: mounts made here are seen only here",
            f"to share mounts, run in its namespace: nsenter --mount --target {pid}",
        )
    return Finding(True, f"that of process {pid}: other processes see the mounts")
