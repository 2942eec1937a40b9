"""``-v``: ``[SOURCE:]TARGET[:OPTION,…]``."""

from __future__ import annotations

from dataclasses import dataclass

from unionfs.containers.mount_specs.rules import checked, clean_source, clean_target
from unionfs.containers.mount_specs.spec import DEFAULT_PROPAGATION, PROPAGATIONS, Kind, MountSpec
from unionfs.store.errors import wrong_usage

_GROUPS = {
    "read-only": ("ro", "rw"),
    "label": ("z", "Z"),
    "propagation": PROPAGATIONS,
    "copy": ("nocopy",),
    "consistency": ("consistent", "cached", "delegated"),
}
"""Of each group a mode has one word at most.  The consistency means nothing on Linux."""

_GROUP_OF = {word: group for group, words in _GROUPS.items() for word in words}
_GRAMMAR = "write /HOST/PATH:/TARGET[:OPTIONS], NAME:/TARGET[:OPTIONS] or /TARGET"


@dataclass(frozen=True)
class Mode:
    """The words after the second colon, by their group; what was not said is empty."""

    read_only: bool = False
    label: str = ""
    propagation: str = ""
    no_copy: bool = False


def parse_mode(text: str, option: str) -> Mode:
    """The mode of ``ro,Z,rslave``; of no words where ``text`` is empty.

    Raises:
        StoreError: a word is unknown, or one contradicts another (exit status 2).
    """
    found: dict[str, str] = {}
    for word in text.split(",") if text else ():
        group = _GROUP_OF.get(word)
        if group is None:
            raise wrong_usage(option, f"{word!r} is not an option of a mount", f"use {', '.join(_GROUP_OF)}")
        if group in found:
            raise wrong_usage(option, f"{found[group]} and {word} contradict each other", "give one of them")
        found[group] = word
    return Mode(found.get("read-only") == "ro", found.get("label", ""), found.get("propagation", ""), "copy" in found)


def parse_short(text: str, driver: str | None = None) -> MountSpec:
    """The mount of one ``-v``; ``driver``: that of the volume, if it has to be made (``--volume-driver``).

    Raises:
        StoreError: it is none (exit status 2).
    """
    option = f"-v {text}"
    fields = text.split(":")
    if not fields[0] or len(fields) > 3:
        raise wrong_usage(option, "not the specification of a mount", _GRAMMAR)
    if len(fields) == 1:
        return checked(MountSpec(Kind.VOLUME, clean_target(fields[0], option), driver=driver), option)
    source, target = fields[0], fields[1]
    if len(fields) == 2 and _is_mode(target):
        raise wrong_usage(option, f"{target!r} is an option, but there is no source", _GRAMMAR)
    mode = parse_mode(fields[2] if len(fields) == 3 else "", option)
    if source.startswith("/"):
        return _bind(source, target, mode, option)
    return _volume(source, target, mode, driver, option)


def _is_mode(text: str) -> bool:
    return all(word in _GROUP_OF for word in text.split(","))


def _bind(source: str, target: str, mode: Mode, option: str) -> MountSpec:
    if mode.no_copy:
        raise wrong_usage(option, "nocopy is for volumes: of a bind nothing is ever copied", "leave it out")
    return MountSpec(
        Kind.BIND,
        clean_target(target, option),
        clean_source(source, option),
        read_only=mode.read_only,
        propagation=mode.propagation or DEFAULT_PROPAGATION,
        makes_source=True,
        relabel=mode.label,
    )


def _volume(source: str, target: str, mode: Mode, driver: str | None, option: str) -> MountSpec:
    if source.startswith("."):
        raise wrong_usage(
            option, f"the source {source!r} is a relative path", "give the host's path from / on, or the name of a volume"
        )
    if mode.propagation:
        raise wrong_usage(option, f"{mode.propagation} is for binds", "leave it out")
    spec = MountSpec(
        Kind.VOLUME,
        clean_target(target, option),
        source,
        read_only=mode.read_only,
        relabel=mode.label,
        no_copy=mode.no_copy,
        driver=driver,
    )
    return checked(spec, option)
