"""The mounts of a container, made ready for the runtime and undone: volumes mounted, filled and looked into, sources on the host.

What has to be undone is found again without any memory of it: volumes by the user ``container:ID``, bind mounts of subpaths by
where they are, in ``mounts/`` of the container's directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unionfs.containers.container import Containers
from unionfs.containers.mount_specs.spec import Kind, MountSpec
from unionfs.containers.propagation import demand_propagation, rootfs_propagation
from unionfs.containers.relabel import relabel
from unionfs.linux.mount import MNT_DETACH, MS_BIND, MS_REC, UMOUNT_NOFOLLOW, mount, umount
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.linux.openat2 import open_in_root
from unionfs.mounter.errors import MounterError, from_os_error
from unionfs.store.errors import NotFoundError, StoreError
from unionfs.volumes import VolumeManager
from unionfs.volumes.fill import fill
from unionfs.volumes.subpath import open_subpath

_SUBPATHS = "mounts"
_USER = "container:"

_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")  # moby, daemon/oci_linux.go: withMounts
_OPPOSITES = {"exec": "noexec", "suid": "nosuid", "dev": "nodev"}


def user_of(container_id: str) -> str:
    """What a container is called as a user of volumes."""
    return f"{_USER}{container_id}"


# -- naming -----------------------------------------------------------------------------------------------------------------


def ensure_volumes(volumes: VolumeManager, specs: Sequence[MountSpec]) -> tuple[tuple[MountSpec, ...], tuple[str, ...]]:
    """``specs`` with names for all volumes, those that are not there made; and the names of the anonymous ones, new for this
    container.  Where one cannot be made, none of these stays.

    Raises:
        StoreError: a volume cannot be made, or has another driver.
    """
    named: list[MountSpec] = []
    anonymous: list[str] = []
    try:
        for spec in specs:
            if spec.kind is Kind.VOLUME:
                volume = volumes.ensure(spec.source, spec.driver, spec.driver_options, spec.labels)
                anonymous += [volume.name] if spec.source is None else []
                spec = dataclasses.replace(spec, source=volume.name)
            named.append(spec)
    except BaseException:
        remove_unused(volumes, anonymous)
        raise
    return tuple(named), tuple(anonymous)


def remove_unused(volumes: VolumeManager, names: Iterable[str]) -> None:
    """Remove anonymous volumes of a container that is gone, unless others use them (``--volumes-from``)."""
    for name in names:
        with contextlib.suppress(MounterError):
            volumes.remove(name)


# -- making ready ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadyMounts:
    """What goes into the runtime's config: ``mounts``, and ``linux.rootfsPropagation`` (None: the runtime's default)."""

    mounts: tuple[dict[str, Any], ...]
    rootfs_propagation: str | None


def make_ready(
    volumes: VolumeManager, specs: Sequence[MountSpec], container_id: str, directory: Path, rootfs: Path
) -> ReadyMounts:
    """Make everything ready that the runtime is to mount in the container; ``directory`` is the container's own, its root
    filesystem is mounted on ``rootfs``.  What is made is undone by `undo`, also where this fails.

    Raises:
        StoreError: a source is not there, a volume cannot be mounted, …
    """
    maker = _Maker(volumes, container_id, directory, rootfs)
    mounts = tuple(maker.make(spec) for spec in specs)
    return ReadyMounts(mounts, rootfs_propagation(spec.propagation for spec in specs if spec.kind is Kind.BIND))


class _Maker:
    """Makes the mounts of one container ready."""

    def __init__(self, volumes: VolumeManager, container_id: str, directory: Path, rootfs: Path) -> None:
        self._volumes = volumes
        self._user = user_of(container_id)
        self._subpaths = directory / _SUBPATHS
        self._rootfs = rootfs

    def make(self, spec: MountSpec) -> dict[str, Any]:
        if spec.kind is Kind.TMPFS:
            return _config(spec, "tmpfs", "tmpfs", [*_tmpfs_options(spec), "ro" if spec.read_only else "rw"])
        source = _host_source(spec) if spec.kind is Kind.BIND else self._volume(spec)
        if spec.relabel:
            relabel(source)
        options = ["rbind" if spec.recursive else "bind", spec.propagation, "ro" if spec.read_only else "rw"]
        return _config(spec, "bind", str(source), options)

    def _volume(self, spec: MountSpec) -> Path:
        name = spec.source
        assert name is not None
        data = self._volumes.mount(name, self._user)
        if spec.subpath is not None:
            return self._part(spec, name, data, spec.subpath)
        if not spec.no_copy and self._volumes.driver_is_ours(self._volumes.get(name)):
            self._fill(name, data, spec.target)
        return data

    def _fill(self, name: str, data: Path, target: str) -> None:
        root = os.open(self._rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return  # the image has no directory there
        finally:
            os.close(root)
        try:
            fill(self._volumes, name, data, source)
        finally:
            os.close(source)

    def _part(self, spec: MountSpec, name: str, data: Path, subpath: str) -> Path:
        """A bind mount of the subpath at a place of our own: by a path the runtime might be led elsewhere."""
        fd = open_subpath(name, data, subpath)
        try:
            self._subpaths.mkdir(mode=0o700, exist_ok=True)
            place = self._subpaths / str(len(os.listdir(self._subpaths)))
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                place.mkdir()
            else:
                place.touch()
            mount(b"/proc/self/fd/%d" % fd, os.fsencode(place), b"", MS_BIND | MS_REC, b"")
        except OSError as error:
            raise from_os_error(error, f"{spec.target}: subpath {subpath}") from error
        finally:
            os.close(fd)
        return place


def _config(spec: MountSpec, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": spec.target, "type": kind, "source": source, "options": options}


def _tmpfs_options(spec: MountSpec) -> list[str]:
    overridden = {_OPPOSITES[word] for word in spec.tmpfs_options if word in _OPPOSITES}
    kept = [word for word in _TMPFS_DEFAULTS if word not in overridden]
    return [*kept, *(word for word in spec.tmpfs_options if word not in kept)]


def _host_source(spec: MountSpec) -> Path:
    assert spec.source is not None
    source = Path(spec.source)
    try:
        if spec.makes_source and not os.path.lexists(source):
            source.mkdir(mode=0o755, parents=True, exist_ok=True)
        source.stat()
    except FileNotFoundError as error:
        raise NotFoundError(
            spec.source, "the source of a bind is not there", "make it first, or use -v, which makes a directory"
        ) from error
    except OSError as error:
        raise StoreError(spec.source, f"the source of a bind: {error.strerror}", "give another path") from error
    demand_propagation(source, spec.propagation)
    return source


# -- undoing ----------------------------------------------------------------------------------------------------------------


def undo(volumes: VolumeManager, container_id: str, directory: Path) -> None:
    """Undo `make_ready`, as far as it came; may be done again.

    Raises:
        StoreError: a volume cannot be unmounted; everything else is undone.
    """
    unmount_below(directory / _SUBPATHS)
    volumes.release(user_of(container_id))


def unmount_below(place: Path) -> None:
    """Take away all that is mounted in ``place``, a directory of a container's own, before anything in it may be removed.

    Raises:
        OSError: as umount2(2).
    """
    for each in reversed(read_mountinfo()):
        if each.mount_point.is_relative_to(place):
            umount(os.fsencode(each.mount_point), MNT_DETACH | UMOUNT_NOFOLLOW)


def is_gone(containers: Containers) -> Callable[[str], bool]:
    """Tells of a user of volumes whether it was a container and uses nothing any more."""
    living = {user_of(container.id) for container in containers.all() if container.has_monitor}
    return lambda user: user.startswith(_USER) and user not in living
