"""A mount made only to see what the kernel grants: it answers INIT, tries to register a backing file, and is gone.

It runs in a process of its own with a time limit, in a mount namespace of its own where it may have one, so that whatever
happens nothing stays mounted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from unionfs.fuse import mounting, wire
from unionfs.fuse.mount_error import MountError
from unionfs.fuse.negotiation import negotiate
from unionfs.fuse.protocol import IOC_BACKING_OPEN, InitFlag
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.linux.capabilities import CAP_SYS_ADMIN, has_capability, in_initial_user_namespace
from unionfs.linux.namespaces import enter_private_mount_namespace

TIMEOUT = 10.0
"""Seconds for all of it; it takes a fraction of one unless something hangs."""

_INIT_TIMEOUT_MS = 5000
_BUFFER_SIZE = 1 << 16


@dataclasses.dataclass(frozen=True)
class Trial:
    """How far the trial came.  A ``trouble`` is empty where there was none."""

    method: str = ""
    """``mount(2)`` or ``fusermount3``."""
    mount_trouble: str = ""
    protocol: str = ""
    """Of the kernel, such as ``7.45``; empty if INIT did not come."""
    protocol_trouble: str = ""
    passthrough_trouble: str = ""


def try_mount(directory: Path) -> Trial:
    """Make the trial; the backing file is one in ``directory``."""
    with tempfile.TemporaryDirectory(prefix="unionfs-doctor-") as scratch:
        # -P: a package of our name in the current directory is not us.
        command = [sys.executable, "-P", "-m", __name__, scratch, os.fspath(directory)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            # A killed child's own namespace goes with it; what fusermount3 mounted stays, if it came that far.
            if not has_capability(CAP_SYS_ADMIN):
                with contextlib.suppress(MountError):
                    mounting.unmount(Path(scratch), lazy=True)
            return Trial(mount_trouble=f"no end after {TIMEOUT:g} s")
    if done.returncode:
        return Trial(mount_trouble=(done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return Trial(**json.loads(done.stdout))


def _main() -> None:
    """The child: ``argv`` is the mount point and the directory for the backing file.  Prints a `Trial` as JSON."""
    mountpoint, directory = Path(sys.argv[1]), Path(sys.argv[2])
    print(json.dumps(dataclasses.asdict(_trial(mountpoint, directory))))


def _trial(mountpoint: Path, directory: Path) -> Trial:
    privileged = has_capability(CAP_SYS_ADMIN)
    trial = Trial(method="mount(2)" if privileged else "fusermount3")
    try:
        if privileged:
            enter_private_mount_namespace()
        fd = mounting.mount(mountpoint, mounting.MountOptions())
    except MountError as error:
        return dataclasses.replace(trial, mount_trouble=str(error))
    except OSError as error:
        return dataclasses.replace(trial, mount_trouble=f"private mount namespace: {error.strerror}")
    try:
        return _talk(trial, fd, directory)
    finally:
        # Closed first: that ends the connection, so that nothing waits for an answer from us.
        os.close(fd)
        mounting.unmount(mountpoint, lazy=True)


def _talk(trial: Trial, fd: int, directory: Path) -> Trial:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(_INIT_TIMEOUT_MS):
        return dataclasses.replace(trial, protocol_trouble="the kernel sent no INIT")
    message = memoryview(os.read(fd, _BUFFER_SIZE))
    unique = wire.REQUEST_HEADER.unpack_from(message)[2]
    offer = wire.decode_init(message[wire.REQUEST_HEADER.size :])
    trial = dataclasses.replace(trial, protocol=f"{offer.major}.{offer.minor}")
    try:
        agreed = negotiate(offer, SessionSettings(), has_capability(CAP_SYS_ADMIN) and in_initial_user_namespace())
    except SessionError as error:
        return dataclasses.replace(trial, protocol_trouble=str(error))
    reply = agreed.encode()
    os.write(fd, wire.REPLY_HEADER.pack(wire.REPLY_HEADER.size + len(reply), 0, unique) + reply)
    if InitFlag.PASSTHROUGH not in offer.flags:
        trouble = "the kernel does not offer it"
    elif agreed.data_path != "passthrough":
        trouble = "no CAP_SYS_ADMIN in the initial user namespace"
    else:
        trouble = _register_backing_file(fd, directory)
    return dataclasses.replace(trial, passthrough_trouble=trouble)


def _register_backing_file(fd: int, directory: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            # The id is given back with the connection.
            fcntl.ioctl(fd, IOC_BACKING_OPEN, bytearray(wire.BACKING_MAP.pack(file.fileno(), 0, 0)))
    except OSError as error:
        reason = "it is on a stacking filesystem itself" if error.errno == errno.ELOOP else error.strerror
        return f"refused for a file in {directory}: {reason}"
    return ""


if __name__ == "__main__":
    _main()
