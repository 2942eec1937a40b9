"""``unionfs export``: the root filesystem of a container or an image, as a tar archive."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from unionfs.containers import teardown
from unionfs.containers.container import Container, Containers
from unionfs.containers.lifecycle import opened
from unionfs.containers.recovery import alone_with, container_labels, mounted_aside, recover
from unionfs.store.errors import NotFoundError
from unionfs.store.pack import pack_tree
from unionfs.store.store import Store


def export(root: Path, name: str) -> Iterator[bytes]:
    """The archive in pieces.  What has both names is the container.

    Raises:
        NotFoundError: there is neither such a container nor such an image.
        StoreError, OSError: it cannot be mounted or read.
    """
    with opened(root) as (store, containers):
        recover(store, containers)
        with _root_filesystem(store, containers, name) as directory:
            yield from pack_tree(directory)


def _root_filesystem(store: Store, containers: Containers, name: str) -> contextlib.AbstractContextManager[Path]:
    try:
        container = containers.find(name)
    except NotFoundError:
        return _of_image(store, name)
    return contextlib.nullcontext(container.rootfs) if container.has_monitor else _of_stopped(store, container)


@contextlib.contextmanager
def _of_stopped(store: Store, container: Container) -> Iterator[Path]:
    with alone_with(store.root, container):
        container.rootfs.mkdir(mode=0o755, parents=True, exist_ok=True)
        store.snapshots.mount(container.snapshot, container.rootfs)
        try:
            yield container.rootfs
        finally:
            teardown.unmount(store, container)


@contextlib.contextmanager
def _of_image(store: Store, name: str) -> Iterator[Path]:
    try:
        image = store.images.find(name)
    except NotFoundError:
        raise NotFoundError(name, "neither a container nor an image", "unionfs ps -a and unionfs image ls list them") from None
    key = f"export-{secrets.token_hex(16)}"
    parent = store.snapshots.ensure_image(image.layers)
    # Labelled as that of a container which is not there: should we be killed, it goes with the next one who cleans up.
    store.snapshots.view(key, parent, labels=container_labels(key))
    try:
        with mounted_aside(store, key) as place:
            yield place
    finally:
        store.snapshots.remove(key)
