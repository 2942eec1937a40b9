"""Whether what a file of ours holds is of the types that its dataclass declares: JSON that is damaged may still be JSON."""

from __future__ import annotations

import math
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_types(record: object) -> None:
    """Look at all fields of a dataclass of texts, numbers, truths, literals, lists of these, and None.

    Raises:
        TypeError: one is of another type than declared; the text says which.
    """
    for name, declared in get_type_hints(type(record)).items():
        value = getattr(record, name)
        if not _fits(value, declared):
            raise TypeError(f"{name} is {value!r}")


def _fits(value: object, declared: Any) -> bool:
    origin = get_origin(declared)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(declared))
    if origin is Literal:
        return value in get_args(declared)
    if origin is list:
        (kind,) = get_args(declared)
        return isinstance(value, list) and all(_fits(each, kind) for each in value)
    if declared is float:
        # JSON of Python knows infinities and NaN, which no time or size is.
        return _is_number(value) and isinstance(value, int | float) and math.isfinite(value)
    return _is_number(value) and isinstance(value, int) if declared is int else isinstance(value, declared)


def _is_number(value: object) -> bool:
    """To Python truths are numbers."""
    return not isinstance(value, bool)
