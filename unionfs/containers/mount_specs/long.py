"""``--mount``: ``type=bind|volume|tmpfs,KEY[=VALUE],…``, one line of CSV."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable

from unionfs.containers.mount_specs.rules import checked, clean_source, clean_target
from unionfs.containers.mount_specs.spec import DEFAULT_PROPAGATION, PROPAGATIONS, Kind, MountSpec
from unionfs.containers.options import parse_size
from unionfs.store.errors import wrong_usage

_TRUE = ("true", "1", "t", "T", "TRUE", "True")
_FALSE = ("false", "0", "f", "F", "FALSE", "False")  # Go's strconv.ParseBool
_CONSISTENCIES = ("default", "consistent", "cached", "delegated")
_RECURSION = {"enabled": True, "disabled": False}
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_FLAGS = ("readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
_EXAMPLE = "write type=volume,source=NAME,target=/PATH[,readonly] and the like"


class _Parser:
    """One ``--mount``: the fields as they come."""

    def __init__(self, text: str) -> None:
        self._option = f"--mount {text}"
        self._text = text
        self._values: dict[str, str] = {}
        self._flags: dict[str, bool] = {}
        self._pairs: dict[str, dict[str, str]] = {"volume-opt": {}, "volume-label": {}}

    def parse(self) -> MountSpec:
        for field in self._fields():
            self._take(field)
        kind = self._kind()
        self._refuse_keys_of_others(kind)
        if "target" not in self._values:
            raise self._wrong("there is no target", _EXAMPLE)
        spec = MountSpec(
            kind,
            clean_target(self._values["target"], self._option),
            self._source(kind),
            read_only=self._flags.get("readonly", False),
        )
        return checked(_COMPLETED[kind](self, spec), self._option)

    def _fields(self) -> list[str]:
        try:
            (fields,) = csv.reader([self._text], strict=True)
        except (csv.Error, ValueError) as error:
            raise self._wrong(
                "not one line of comma-separated fields", "put a field that holds a comma in double quotes"
            ) from error
        return fields

    def _take(self, field: str) -> None:
        key, separator, value = field.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if key in _FLAGS:
            self._flags[key] = self._truth(key, value) if separator else True
        elif not separator:
            raise self._wrong(f"{field!r} is not KEY=VALUE", _EXAMPLE)
        elif key in self._pairs:
            name, _, content = value.partition("=")
            self._pairs[key][name] = content
        elif key in _KEYS:
            self._values[key] = value
        else:
            raise self._wrong(f"{key!r} is not a key of a mount", f"use {', '.join(sorted((*_KEYS, *_FLAGS, *self._pairs)))}")

    def _truth(self, key: str, value: str) -> bool:
        if value not in (*_TRUE, *_FALSE):
            raise self._wrong(f"{key}={value} is neither true nor false", f"write {key}, {key}=true or {key}=false")
        return value in _TRUE

    def _kind(self) -> Kind:
        name = self._values.get("type", "volume").lower()
        try:
            return Kind(name)
        except ValueError:
            raise self._wrong(f"no mounts of type {name}", "use type=bind, type=volume or type=tmpfs") from None

    def _refuse_keys_of_others(self, kind: Kind) -> None:
        given = [*self._values, *self._flags, *(key for key, pairs in self._pairs.items() if pairs)]
        for key in given:
            prefix = key.partition("-")[0]
            if prefix != key and prefix != kind.value:
                raise self._wrong(f"{key} is for type={prefix}", f"leave it out, or write type={prefix}")
        if self._values.get("consistency", "default") not in _CONSISTENCIES:
            raise self._wrong(f"consistency={self._values['consistency']} is none", f"use {', '.join(_CONSISTENCIES)}")

    def _source(self, kind: Kind) -> str | None:
        source = self._values.get("source", "")
        if kind is Kind.BIND:
            if not source:
                raise self._wrong("there is no source", "write source=/HOST/PATH")
            return clean_source(source, self._option)
        if kind is Kind.TMPFS and source:
            raise self._wrong("a tmpfs has no source", "leave it out")
        return source or None

    # -- by type ------------------------------------------------------------------------------------------------------

    def bind(self, spec: MountSpec) -> MountSpec:
        propagation = self._values.get("bind-propagation", DEFAULT_PROPAGATION).lower()
        if propagation not in PROPAGATIONS:
            raise self._wrong(f"bind-propagation={propagation} is none", f"use {', '.join(PROPAGATIONS)}")
        recursion = self._values.get("bind-recursive", "enabled").lower()
        if recursion not in _RECURSION:
            raise self._wrong(f"bind-recursive={recursion} is none", "use enabled or disabled")
        recursive = _RECURSION[recursion] and not self._flags.get("bind-nonrecursive", False)
        makes_source = self._flags.get("bind-create-src", False)
        return dataclasses.replace(spec, propagation=propagation, recursive=recursive, makes_source=makes_source)

    def volume(self, spec: MountSpec) -> MountSpec:
        if spec.read_only and spec.source is None:
            raise self._wrong("an anonymous volume that cannot be written stays empty", "name the volume, or leave readonly out")
        return dataclasses.replace(
            spec,
            no_copy=self._flags.get("volume-nocopy", False),
            subpath=self._values.get("volume-subpath"),
            driver=self._values.get("volume-driver") or None,
            driver_options=self._pairs["volume-opt"],
            labels=self._pairs["volume-label"],
        )

    def tmpfs(self, spec: MountSpec) -> MountSpec:
        options = []
        if "tmpfs-size" in self._values:
            options.append(f"size={parse_size(self._values['tmpfs-size'])}")
        if "tmpfs-mode" in self._values:
            options.append(f"mode={self._mode(self._values['tmpfs-mode'])}")
        return dataclasses.replace(spec, tmpfs_options=tuple(options))

    def _mode(self, text: str) -> str:
        try:
            mode = int(text, 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o7777:
            raise self._wrong(f"tmpfs-mode={text} is not an octal mode", "write tmpfs-mode=1770 and the like")
        return f"{mode:o}"

    def _wrong(self, problem: str, remedy: str) -> Exception:
        return wrong_usage(self._option, problem, remedy)


_KEYS = (
    "type",
    "source",
    "target",
    "consistency",
    "bind-propagation",
    "bind-recursive",
    "volume-driver",
    "volume-subpath",
    "tmpfs-size",
    "tmpfs-mode",
)
_COMPLETED: dict[Kind, Callable[[_Parser, MountSpec], MountSpec]] = {
    Kind.BIND: _Parser.bind,
    Kind.VOLUME: _Parser.volume,
    Kind.TMPFS: _Parser.tmpfs,
}


def parse_long(text: str) -> MountSpec:
    """The mount of one ``--mount``.

    Raises:
        StoreError: it is none (exit status 2).
    """
    return _Parser(text).parse()
