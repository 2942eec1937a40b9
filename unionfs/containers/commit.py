"""``unionfs commit``: a container's changes as a layer on its image."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unionfs.containers.config_changes import apply_changes
from unionfs.containers.container import Container
from unionfs.containers.lifecycle import opened
from unionfs.containers.options import RunOptions
from unionfs.containers.process import merged_environment
from unionfs.containers.recovery import alone_with, mark_paused, recover, unmark_paused
from unionfs.containers.runtime import find_runtime
from unionfs.linux.syncfs import syncfs
from unionfs.store.errors import StoreError
from unionfs.store.image_config import ImageConfig, new_config
from unionfs.store.images import Image
from unionfs.store.leases import adding
from unionfs.store.reference import Reference


def commit(
    root: Path,
    name: str,
    reference: Reference | None,
    *,
    message: str = "",
    author: str = "",
    changes: Sequence[str] = (),
) -> Image:
    """Make an image of a container: the layers of its image, and one of what it has changed, the same bytes for the same
    content.  A container that runs is paused meanwhile.

    ``changes`` are instructions of a Dockerfile (`unionfs.containers.config_changes`).  The time of the image is
    SOURCE_DATE_EPOCH, if that is in the environment.

    Raises:
        NotFoundError: there is no such container.
        StoreError: its storage driver keeps no changes apart; an instruction is malformed.
    """
    with opened(root) as (store, containers):
        recover(store, containers)
        container = containers.find(name)
        image = store.images.find(container.image)
        base = image.config
        config = apply_changes(_config_of(base, container.options), changes)
        upper = store.snapshots.changes_dir(container.snapshot)
        if upper is None:
            raise StoreError(
                container.name, "its storage driver keeps no changes apart", "export it, and import that as an image"
            )
        with adding(root), _quiet(root, container):
            layer = store.layers.adopt(upper)
            document = new_config(
                [*image.layers, layer.diff_id],
                created=float(os.environ.get("SOURCE_DATE_EPOCH", time.time())),
                base=base,
                config=config,
                created_by=" ".join(container.options.command),
                comment=message,
                author=author,
            )
            return store.images.add(document, [*image.layers, layer.diff_id], reference)


def _config_of(base: ImageConfig, options: RunOptions) -> dict[str, object]:
    """The settings of the image, with those that the container was run with, as docker commits them."""
    settings = base.raw.get("config")
    config: dict[str, object] = dict(settings) if isinstance(settings, Mapping) else {}
    if options.environment:
        config["Env"] = merged_environment(base.env, options.environment, ours=os.environ)
    if options.entrypoint is not None:
        config["Entrypoint"] = [options.entrypoint] if options.entrypoint else None
    if options.command or options.entrypoint is not None:
        config["Cmd"] = list(options.command)
    given = {"WorkingDir": options.working_dir, "User": options.user, "StopSignal": options.stop_signal}
    config |= {key: value for key, value in given.items() if value}
    if options.labels:
        config["Labels"] = {**base.labels, **options.labels}
    return config


@contextlib.contextmanager
def _quiet(root: Path, container: Container) -> Iterator[None]:
    """Nothing changes in the container's writable layer meanwhile, and all that was changed is there."""
    if not container.has_monitor:
        with alone_with(root, container):
            yield
        return
    runtime = find_runtime(container.options.runtime)
    mark_paused(container)
    try:
        runtime.pause(container.directory, container.id)
        try:
            _sync(container.rootfs)
            yield
        finally:
            runtime.resume(container.directory, container.id)
    finally:
        unmark_paused(container)


def _sync(rootfs: Path) -> None:
    """What the kernel holds back of what was written through the mount goes to the layer (syncfs(2))."""
    fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
