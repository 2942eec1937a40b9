"""The places that the runtime mounts on (/proc, /dev, /etc/hosts …), in a layer of their own between the image and the container.

The runtime makes what is missing of them.  In the writable layer they would be changes of the container, which `diff` would show
and `commit` would keep; docker has a layer ``ID-init`` for the same reason.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from unionfs.containers.host_files import PLACES
from unionfs.containers.mounts import DIRECTORIES
from unionfs.containers.recovery import mounted_aside
from unionfs.linux.openat2 import open_in_root
from unionfs.store.errors import ExistsError, InUseError, NotFoundError, StoreError
from unionfs.store.images import Image
from unionfs.store.leases import adding
from unionfs.store.store import Store

_TRIES = 5
_KEPT_FOR_CHILDREN = "unionfs.image"
"""The label of what `Snapshotter.collect` removes when nothing stands on it and its image is gone."""

_ON_ROOT = ("/proc", "/dev", "/sys", "/etc")
_REAL = ("/proc", "/dev", "/sys")


def ensure_init_layer(store: Store, image: Image) -> str:
    """The name of the committed snapshot that containers of ``image`` stand on; made when the first one starts.

    Raises:
        StoreError: the image cannot be mounted, or is damaged.
        OSError: the disk is full.
    """
    for _ in range(_TRIES):
        top = store.snapshots.ensure_image(image.layers)
        name = f"init-{top}"
        try:
            store.snapshots.stat(name)
        except NotFoundError:
            # Another container may make it at the same moment, or `gc` take away what no container stands on yet.
            with contextlib.suppress(ExistsError, NotFoundError):
                _make(store, top, name)
        else:
            return name
    raise InUseError(str(image.id), "its first layer is removed again and again", "wait for unionfs gc to end")


def _make(store: Store, top: str, name: str) -> None:
    key = f"{name}-{secrets.token_hex(8)}"
    with adding(store.root):  # or `gc` would take it for what a killed process has left
        store.snapshots.prepare(key, top, labels={_KEPT_FOR_CHILDREN: "init"})
        try:
            with mounted_aside(store, key) as place:
                _make_places(place)
            store.snapshots.commit(name, key)
        except BaseException:
            with contextlib.suppress(NotFoundError):
                store.snapshots.remove(key)
            raise


def _make_places(rootfs: Path) -> None:
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_real(root)
        for place in _ON_ROOT:
            _make_in(root, "/", place, is_directory=True)
        for place in DIRECTORIES:
            if place.startswith("/dev/"):
                continue  # on the tmpfs that is mounted on /dev
            _make_in(root, os.path.dirname(place), place, is_directory=True)
        for place in PLACES:
            _make_in(root, os.path.dirname(place), place, is_directory=False)
    finally:
        os.close(root)


def _check_real(root: int) -> None:
    """Refuse an image in which one of these is a link: runc 1.1 makes and removes names below /dev by its path on the host
    (libcontainer/rootfs_linux.go, setupDevSymlinks and setupPtmx), and would do so wherever the image says."""
    for place in _REAL:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.stat(place.lstrip("/"), dir_fd=root, follow_symlinks=False).st_mode):
                problem = "is no directory in the image, and the container's own would be made wherever that leads"
                raise StoreError(place, problem, "get the image from somebody you trust, or make it anew")


def _make_in(root: int, parent: str, place: str, *, is_directory: bool) -> None:
    """Make what is missing; where the image has something of that name, even a link that leads nowhere, it stays."""
    try:
        directory = open_in_root(root, parent, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    name = os.path.basename(place)
    try:
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=directory)
        else:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=directory))
    except FileExistsError:
        return
    finally:
        os.close(directory)
