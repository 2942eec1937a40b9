"""The config of an image (OCI image specification, config.md): what its containers run, and which layers it stands on.

Its digest is the image ID, so the bytes are kept as they came; this is a view of them.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unionfs.store.digest import Digest, parse_digest
from unionfs.store.documents import as_list, as_object, as_text, as_texts, canonical, optional_object, parse_object
from unionfs.store.errors import CorruptError
from unionfs.store.platforms import Platform, host_platform

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class ImageConfig:
    """What an image says about itself.

    ``raw`` is the whole document.  ``diff_ids``: its layers, the bottom first.  ``entrypoint`` and ``cmd``: the words of the
    command, ``cmd`` being
    what arguments of the user stand for.  ``env``: ``NAME=VALUE``.  ``user``: ``user[:group]``, names or numbers.  ``volumes``,
    ``exposed_ports``: paths, and
    ``PORT[/PROTOCOL]``.  ``created``: seconds since the epoch, None where it does not tell.
    """

    raw: Mapping[str, object]
    platform: Platform
    diff_ids: tuple[Digest, ...]
    created: float | None
    author: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    working_dir: str
    user: str
    volumes: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    labels: Mapping[str, str]
    stop_signal: str

    @classmethod
    def parse(cls, data: bytes, thing: str = "image config") -> ImageConfig:
        """Read one; ``thing`` is what errors call it.

        Raises:
            CorruptError: it is malformed.
        """
        document = parse_object(data, thing)
        config = optional_object(document, "config", thing)
        return cls(
            raw=document,
            platform=Platform(
                as_text(document, "os", thing, "linux"),
                as_text(document, "architecture", thing, ""),
                as_text(document, "variant", thing, ""),
            ),
            diff_ids=_diff_ids(document, thing),
            created=parse_time(document.get("created"), thing),
            author=as_text(document, "author", thing, ""),
            env=as_texts(config, "Env", thing),
            entrypoint=as_texts(config, "Entrypoint", thing),
            cmd=as_texts(config, "Cmd", thing),
            working_dir=as_text(config, "WorkingDir", thing, ""),
            user=as_text(config, "User", thing, ""),
            volumes=tuple(optional_object(config, "Volumes", thing)),
            exposed_ports=tuple(optional_object(config, "ExposedPorts", thing)),
            labels=_labels(config, thing),
            stop_signal=as_text(config, "StopSignal", thing, ""),
        )


def _diff_ids(document: Mapping[str, object], thing: str) -> tuple[Digest, ...]:
    rootfs = as_object(document.get("rootfs"), f"rootfs of {thing}")
    if rootfs.get("type") != "layers":
        raise CorruptError(thing, f"its root filesystem is of type {rootfs.get('type')!r}, not layers", "make the archive anew")
    return tuple(parse_digest(item, f"diff ID in {thing}") for item in as_list(rootfs, "diff_ids", thing))


def _labels(config: Mapping[str, object], thing: str) -> dict[str, str]:
    labels = optional_object(config, "Labels", thing)
    return {name: as_text(labels, name, f"labels of {thing}") for name in labels}


def parse_time(value: object, thing: str) -> float | None:
    """A time of RFC 3339 in seconds since the epoch; None for a missing one.

    Raises:
        CorruptError: it is none.
    """
    if value is None:
        return None
    match = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError("not as RFC 3339 has them")
        # Go writes nanoseconds, of which datetime takes six digits alone.
        zone = "+00:00" if match[3] in "Zz" else match[3]
        # The first year that Go knows, its zero time, lies before what timestamp() does in some time zones.
        moment = datetime.datetime.fromisoformat(match[1] + zone)
        epoch = datetime.datetime.fromtimestamp(0, datetime.UTC)
        return (moment - epoch).total_seconds() + float(match[2] or 0)
    except (ValueError, OverflowError) as error:
        raise CorruptError(thing, f"{value!r} is no time: {error}", "make the archive anew") from error


def format_time(seconds: float) -> str:
    """Seconds since the epoch as a time of RFC 3339 in UTC, in whole microseconds.

    Raises:
        ValueError: the year has no four digits.
    """
    moment = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.isoformat().replace("+00:00", "Z")


def new_config(
    diff_ids: Sequence[Digest],
    *,
    created: float,
    base: ImageConfig | None = None,
    config: Mapping[str, object] | None = None,
    created_by: str = "",
    comment: str = "",
    author: str = "",
) -> bytes:
    """A config for ``diff_ids`` (all layers, the bottom first), the same bytes for the same arguments.

    ``base`` is the image below, whose history, platform and settings go on; ``config`` stands for its settings (``Env``, ``Cmd``
    and so on, as in the
    specification) where it is given.  ``created``: seconds since the epoch.  The rest says how the topmost layer came to be.
    """
    platform = base.platform if base else host_platform()
    document: dict[str, object] = dict(base.raw) if base else {"config": {}}
    step = {"created": format_time(created), "created_by": created_by, "comment": comment, "author": author}
    document |= {
        "created": format_time(created),
        "os": platform.os,
        "architecture": platform.architecture,
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [*_history(base, len(diff_ids) - 1, created), {name: text for name, text in step.items() if text}],
    }
    if platform.variant:
        document["variant"] = platform.variant
    if author:
        document["author"] = author
    if config is not None:
        document["config"] = dict(config)
    return canonical(document)


def _history(base: ImageConfig | None, layers: int, created: float) -> Sequence[object]:
    """That of ``base``, with an entry for each of its layers: podman refuses to commit over an image with fewer."""
    known = as_list(base.raw, "history", "image config") if base and "history" in base.raw else ()
    told = sum(not as_object(entry, "history of image config").get("empty_layer") for entry in known)
    return [*({"created": format_time(created)} for _ in range(layers - told)), *known]
