"""Filters of ``volume ls`` and ``volume prune``, with docker's meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unionfs.store.errors import wrong_usage
from unionfs.volumes.volume import Volume

_TRUE, _FALSE = ("true", "1", "t"), ("false", "0", "f")


@dataclass(frozen=True)
class Filters:
    """Of one key any value may match, of several keys all must; ``labels`` must all match.  ``dangling``: only volumes that
    nobody uses (True), only those that somebody does (False)."""

    names: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    labels_not: tuple[str, ...] = ()
    dangling: bool | None = None

    def match(self, volume: Volume, users: Callable[[], Sequence[str]]) -> bool:
        """Whether ``volume`` is meant; ``users``, who tells its users, is asked only where it matters."""
        return (
            (not self.names or any(name in volume.name for name in self.names))
            and (not self.drivers or volume.driver in self.drivers)
            and all(_has(volume, label) for label in self.labels)
            and not any(_has(volume, label) for label in self.labels_not)
            and (self.dangling is None or self.dangling != bool(users()))
        )


def _has(volume: Volume, label: str) -> bool:
    name, separator, value = label.partition("=")
    return name in volume.labels and (not separator or volume.labels[name] == value)


def parse_filters(words: Sequence[str]) -> Filters:
    """Filters of ``name=…``, ``driver=…``, ``label=NAME[=VALUE]``, ``label!=NAME[=VALUE]``, ``dangling=true|false``.

    Raises:
        StoreError: one is malformed or unknown (exit status 2).
    """
    found: dict[str, list[str]] = {"name": [], "driver": [], "label": [], "label!": [], "dangling": []}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not value or key not in found:
            raise wrong_usage(word, "not a filter of volumes", f"write KEY=VALUE with one of {', '.join(found)}")
        found[key].append(value)
    return Filters(
        names=tuple(found["name"]),
        drivers=tuple(found["driver"]),
        labels=tuple(found["label"]),
        labels_not=tuple(found["label!"]),
        dangling=_truth(found["dangling"]),
    )


def _truth(values: Sequence[str]) -> bool | None:
    if not values:
        return None
    text = values[-1].lower()
    if text not in (*_TRUE, *_FALSE):
        raise wrong_usage(f"dangling={text}", "neither true nor false", "write dangling=true or dangling=false")
    return text in _TRUE
