"""Probes of FUSE: the device, the right to mount, and what the kernel's side can do."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from unionfs.fuse.fusermount import PROGRAM
from unionfs.fuse.mounting import FUSE_DEVICE
from unionfs.mounter.finding import Finding, Probe
from unionfs.mounter.trial_mount import Trial, try_mount

FUSE_CONF = Path("/etc/fuse.conf")

_DEVICE_REMEDIES = {
    errno.ENOENT: "load the kernel module (modprobe fuse), or give the container the device",
    errno.ENODEV: "load the kernel module (modprobe fuse)",
    errno.ENXIO: "load the kernel module (modprobe fuse)",
    errno.EACCES: "run as root, or let users have it (chmod 0666 /dev/fuse)",
    errno.EPERM: "allow the device (10:229) in the container or cgroup",
}
_INSTALL = "apt-get install fuse3"


def fuse_probes(directory: Path) -> list[Probe]:
    """The probes of this file; a file in ``directory`` is what passthrough is tried with."""

    @functools.cache
    def trial() -> Trial:
        return try_mount(directory)

    return [
        Probe(FUSE_DEVICE, _device),
        Probe("mounting", lambda: _mounting(trial)),
        Probe("FUSE protocol", lambda: _protocol(trial)),
        Probe("passthrough", lambda: _passthrough(trial)),
        Probe(PROGRAM, lambda: find_fusermount(shutil.which(PROGRAM))),
        Probe("user_allow_other", lambda: find_user_allow_other(FUSE_CONF, os.geteuid() == 0)),
    ]


def _device() -> Finding:
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding(False, error.strerror or str(error), _DEVICE_REMEDIES.get(error.errno or 0, "see dmesg"))
    return Finding(True, "can be opened")


def _mounting(trial: Callable[[], Trial]) -> Finding:
    made = trial()
    if made.mount_trouble:
        return Finding(False, made.mount_trouble, f"run as root, or {_INSTALL} and check {FUSE_DEVICE}")
    return Finding(True, f"a trial mount by {made.method} worked")


def _protocol(trial: Callable[[], Trial]) -> Finding:
    made = trial()
    if made.protocol_trouble:
        return Finding(False, made.protocol_trouble, "use Linux 5.4 or newer")
    if not made.protocol:
        return Finding(False, "not known: nothing could be mounted", "see mounting")
    return Finding(True, f"{made.protocol} (Linux {os.uname().release})")


def _passthrough(trial: Callable[[], Trial]) -> Finding:
    made = trial()
    if not made.protocol or made.protocol_trouble:
        return Finding(False, "not known: nothing could be mounted", "see mounting")
    if made.passthrough_trouble:
        return Finding(
            False,
            f"{made.passthrough_trouble}; files go through the page cache",
            "mount as root on Linux 6.9 or newer (CONFIG_FUSE_PASSTHROUGH), with the layers on no overlay themselves",
        )
    return Finding(True, "a backing file was accepted: file data does not pass through the daemon")


def find_fusermount(path: str | None) -> Finding:
    """Whether the program at ``path`` (None: there is none) can mount for users."""
    if path is None:
        return Finding(False, "not found; only root can mount, and podman cannot unmount", _INSTALL)
    try:
        found = os.stat(path)
    except OSError as error:
        return Finding(False, f"{path}: {error.strerror}", _INSTALL)
    if found.st_uid != 0 or not found.st_mode & stat.S_ISUID:
        return Finding(False, f"{path} is not set-user-id root; only root can mount", f"chown root {path} && chmod u+s {path}")
    return Finding(True, f"{path}, set-user-id root")


def find_user_allow_other(conf: Path, is_root: bool) -> Finding:
    """Whether ``conf`` lets users share their mounts; root may always."""
    try:
        lines = conf.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        return Finding(False, f"{conf}: {error.strerror}", f"make it readable: chmod a+r {conf}")
    if any(line.strip() == "user_allow_other" for line in lines):
        return Finding(True, f"set in {conf}: users may mount with allow_other")
    if is_root:
        return Finding(True, f"not set in {conf}; root needs it not")
    return Finding(False, f"not set in {conf}: no allow_other for users", f"as root, add the line user_allow_other to {conf}")
