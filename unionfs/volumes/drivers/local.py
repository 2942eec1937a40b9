"""The driver ``local``: a directory of the store, or any filesystem mounted there when somebody uses the volume.

Options are docker's (moby, volume/local): ``type``, ``device`` and ``o`` together for mount(2), ``size`` for a limit.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from unionfs.linux.mount import MS_BIND, MS_RDONLY, MS_REMOUNT, UMOUNT_NOFOLLOW, mount, umount
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.store.errors import InUseError, StoreError, wrong_usage
from unionfs.volumes.drivers import DATA, Bases
from unionfs.volumes.drivers.mount_options import MountWords, parse_words, without_secrets
from unionfs.volumes.volume import Volume

_KNOWN = ("type", "device", "o")
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("type", "device")}
_NETWORK = ("nfs", "nfs4", "cifs")

_REMEDIES = {
    errno.ENODEV: "this kernel has no such filesystem; see /proc/filesystems",
    errno.ENOENT: "make the device or directory first",
    errno.EINVAL: "see which options the filesystem knows (mount(8)); nfs wants addr= in o=",
    errno.EPERM: "run as root",
    errno.ENOTBLK: "give a block device, or another type",
}


class LocalDriver:
    """See the module."""

    name = "local"
    scope = "local"
    wants_each_mount = False
    is_ours = True

    def check(self, options: Mapping[str, str]) -> None:
        """As `VolumeDriver.check`."""
        for option in options:
            if option == "size":
                raise wrong_usage(
                    "size", "the driver local cannot limit a directory", "use --driver overlay, or type=tmpfs and o=size=…"
                )
            if option not in _KNOWN:
                raise wrong_usage(option, "not an option of the driver local", f"give {', '.join(_KNOWN)}")
            for needed in _NEEDS[option]:
                if not options.get(needed):
                    raise wrong_usage(option, f"means nothing without {needed}", f"give {needed}=… too")
        if parse_words(options.get("o", "")).flags & MS_BIND and not os.path.isabs(options["device"]):
            raise wrong_usage(options["device"], "not an absolute path", "give the directory to bind by its absolute path")

    def bases(self, options: Mapping[str, str]) -> Bases:
        """As `VolumeDriver.bases`."""
        del options
        return Bases()

    def create(self, volume: Volume, directory: Path) -> None:
        """As `VolumeDriver.create`."""

    def remove(self, volume: Volume, directory: Path) -> None:
        """As `VolumeDriver.remove`."""

    def mount(self, volume: Volume, directory: Path, user: str) -> Path:
        """As `VolumeDriver.mount`."""
        del user
        data = directory / DATA
        if volume.options and not is_mountpoint(data):
            _mount_device(volume, data)
        return data

    def unmount(self, volume: Volume, directory: Path, user: str) -> None:
        """As `VolumeDriver.unmount`."""
        del user
        data = directory / DATA
        while volume.options and is_mountpoint(data):
            unmount_data(volume.name, data)

    def path(self, volume: Volume, directory: Path) -> Path | None:
        """As `VolumeDriver.path`."""
        data = directory / DATA
        return data if not volume.options or is_mountpoint(data) else None

    def status(self, volume: Volume, directory: Path) -> Mapping[str, object]:
        """As `VolumeDriver.status`."""
        del volume, directory
        return {}


def is_mountpoint(path: Path) -> bool:
    """Whether something is mounted on ``path``; asks no filesystem that may hang."""
    return any(each.mount_point == path for each in read_mountinfo())


def unmount_data(name: str, data: Path) -> None:
    """Take away the topmost mount on ``data``.

    Raises:
        InUseError: somebody works in it.
        OSError: as umount2(2).
    """
    try:
        umount(os.fsencode(data), UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise InUseError(name, f"the volume is mounted on {data} and in use", "end what uses it (fuser -vm)") from error


def _mount_device(volume: Volume, data: Path) -> None:
    kind, device = volume.options["type"], volume.options["device"]
    words = parse_words(volume.options.get("o", ""))
    if kind in _NETWORK:
        words = _with_address(volume.name, words)
    target = os.fsencode(data)
    try:
        # Of a bind mount the kernel takes no other flag in the first call (mount(2)).
        first = words.flags & ~MS_RDONLY if words.flags & MS_BIND else words.flags
        mount(os.fsencode(device), target, kind.encode(), first, os.fsencode(words.data))
        if words.flags & MS_BIND and words.flags & MS_RDONLY:
            _remount_read_only(target, words.flags)
    except OSError as error:
        shown = without_secrets(volume.options.get("o", ""))
        problem = f"type={kind}, device={device}, o={shown}: {error.strerror}"
        raise StoreError(volume.name, problem, _REMEDIES.get(error.errno or 0, "see dmesg")) from error


def _remount_read_only(target: bytes, flags: int) -> None:
    try:
        mount(b"", target, b"", flags | MS_REMOUNT, b"")
    except OSError:
        umount(target, UMOUNT_NOFOLLOW)
        raise


def _with_address(name: str, words: MountWords) -> MountWords:
    """The kernel takes addresses only, so a name after ``addr=`` is looked up, as docker does."""
    fields = words.data.split(",") if words.data else []
    for position, field in enumerate(fields):
        if field.startswith("addr="):
            fields[position] = f"addr={_address(name, field.removeprefix('addr='))}"
    return MountWords(words.flags, ",".join(fields))


def _address(name: str, host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise StoreError(name, f"the address of {host} is not known: {error.strerror}", "give addr= as a number") from error
