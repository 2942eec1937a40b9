"""``unionfs commit``: a container's changes as a layer on its image."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from unionfs.containers.config_changes import apply_changes
from unionfs.containers.lifecycle import opened
from unionfs.containers.options import RunOptions
from unionfs.containers.pausing import quiet
from unionfs.containers.process import merged_environment
from unionfs.containers.recovery import recover
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
        InUseError: another command is at work on it.
        StoreError: an instruction is malformed, the disk is full; nothing is kept then, and the container goes on.
    """
    with opened(root) as (store, containers):
        recover(store, containers)
        container = containers.find(name)
        image = store.images.find(container.image)
        base = image.config
        config = apply_changes(_config_of(base, container.options), changes)
        with adding(root):
            with quiet(root, container):
                diff_id = store.snapshots.keep_changes(container.snapshot)
            layers = [*image.layers, diff_id]
            document = new_config(
                layers,
                created=float(os.environ.get("SOURCE_DATE_EPOCH", time.time())),
                base=base,
                config=config,
                created_by=" ".join(container.options.command),
                comment=message,
                author=author,
            )
            return store.images.add(document, layers, reference)


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
