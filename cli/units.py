"""Sizes and times for people."""

from __future__ import annotations

import time

_UNITS = ("kB", "MB", "GB", "TB")


def size_text(size: int) -> str:
    """Bytes in decimal units with three digits, as docker has them."""
    if size < 1000:
        return f"{size}B"
    amount = float(size)
    for unit in _UNITS:
        amount /= 1000
        if amount < 999.5 or unit == _UNITS[-1]:
            break
    return f"{amount:.3g}{unit}" if amount < 1000 else f"{amount:.0f}{unit}"


def time_text(seconds: float) -> str:
    """Seconds since the epoch in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


_SIZES = frozenset(("size", "tar_size", "shared", "unique"))
_TIMES = frozenset(("created", "imported"))


def figure_text(key: str, value: object) -> object:
    """What ``inspect --json`` has under ``key``, as people read it."""
    if isinstance(value, list):
        return ", ".join(value)
    if key in _TIMES:
        return time_text(float(str(value)))
    return size_text(int(str(value))) if key in _SIZES else value
