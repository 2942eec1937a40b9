"""What the user of ``unionfs run`` asks for."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from unionfs.containers.mount_specs.spec import MountSpec
from unionfs.store.errors import wrong_usage

Network = Literal["host", "none"]
NETWORKS: tuple[Network, ...] = ("host", "none")

_SIZE = re.compile(r"([0-9]{1,19})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True)
class RunOptions:
    """One container that somebody wants.  What is None comes from the image.

    ``command`` are the words after the image; ``environment`` are ``NAME=VALUE``; ``size`` is the limit of the writable layer in
    bytes; ``user`` is ``USER[:GROUP]``, names or numbers.  ``mounts`` are those asked for, of a container that is there all that
    it has; ``volumes_from`` are ``CONTAINER[:MODE]``.
    """

    image: str
    command: tuple[str, ...] = ()
    name: str | None = None
    entrypoint: str | None = None
    environment: tuple[str, ...] = ()
    working_dir: str | None = None
    user: str | None = None
    hostname: str | None = None
    network: Network = "host"
    labels: dict[str, str] = field(default_factory=dict)
    read_only: bool = False
    removes: bool = False
    detached: bool = False
    interactive: bool = False
    terminal: bool = False
    size: int | None = None
    stop_signal: str | None = None
    runtime: str | None = None
    mounts: tuple[MountSpec, ...] = ()
    volumes_from: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the database."""
        return {**dataclasses.asdict(self), "mounts": [mount.to_json() for mount in self.mounts]}

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> RunOptions:
        """The other way round."""
        words = {name: tuple(text.get(name, ())) for name in ("command", "environment", "volumes_from")}
        mounts = tuple(MountSpec.from_json(mount) for mount in text.get("mounts", ()))
        return cls(**{**text, **words, "mounts": mounts})


def parse_size(text: str) -> int:
    """Bytes of ``10G``, ``512M``, ``100k``, ``4096``; the letters are powers of 1024.

    Raises:
        StoreError: it is no size (exit status 2).
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ") if match else 0
    if not 0 < size < 1 << 63:
        raise wrong_usage(text, "not a size", "write a number of bytes, or one with K, M, G or T, such as 10G")
    return size


def parse_signal(text: str) -> signal.Signals:
    """The signal of ``TERM``, ``SIGTERM`` or ``15``.

    Raises:
        StoreError: there is none (exit status 2).
    """
    try:
        if text.isdigit():
            return signal.Signals(int(text))
        name = text.upper()
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (KeyError, ValueError):
        raise wrong_usage(text, "no such signal", "kill -l lists them") from None


def parse_environment_file(text: str) -> tuple[str, ...]:
    """The lines of an environment file as docker reads it: ``NAME=VALUE`` or ``NAME``, taken literally; empty lines and those
    that begin with ``#`` are left out."""
    lines = (line.lstrip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def parse_labels(words: Sequence[str]) -> dict[str, str]:
    """Labels of ``NAME=VALUE``; ``NAME`` alone has an empty one.

    Raises:
        StoreError: a name is empty (exit status 2).
    """
    labels = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name:
            raise wrong_usage(word, "not a label", "write NAME=VALUE")
        labels[name] = value
    return labels


def dump(value: object) -> str:
    """JSON for the database, and for files."""
    return json.dumps(value, sort_keys=True)
