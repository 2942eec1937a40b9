"""Instructions of a Dockerfile that change what an image says about itself (``commit --change``)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence

from unionfs.store.errors import wrong_usage

_Config = dict[str, object]


def apply_changes(config: Mapping[str, object], changes: Sequence[str]) -> dict[str, object]:
    """``config`` (the object of that name in an image's config) after the instructions CMD, ENTRYPOINT, ENV, WORKDIR, USER,
    EXPOSE, LABEL, VOLUME.

    Raises:
        StoreError: another instruction, or a malformed one (exit status 2).
    """
    changed = dict(config)
    for change in changes:
        name, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None or not rest.strip():
            raise wrong_usage(
                change, "not an instruction that changes an image", f"use one of {', '.join(_INSTRUCTIONS)} with its words"
            )
        try:
            instruction(changed, rest.strip())
        except ValueError as error:
            raise wrong_usage(change, str(error), "write it as in a Dockerfile") from None
    return changed


def _words(text: str) -> list[str]:
    """The JSON form of a command, or a line for a shell."""
    if not text.startswith("["):
        return ["/bin/sh", "-c", text]
    words = json.loads(text)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("a command in brackets is a list of texts")
    return words


def _pairs(text: str) -> list[tuple[str, str]]:
    words = shlex.split(text)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise ValueError("it has no value")
        return [(name, value.strip())]
    pairs = [word.partition("=") for word in words]
    if any(not name or not separator for name, separator, _ in pairs):
        raise ValueError("not NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _cmd(config: _Config, text: str) -> None:
    config["Cmd"] = _words(text)


def _entrypoint(config: _Config, text: str) -> None:
    config["Entrypoint"] = _words(text)


def _env(config: _Config, text: str) -> None:
    before = config.get("Env")
    variables = dict(str(word).partition("=")[::2] for word in before) if isinstance(before, list) else {}
    variables.update(_pairs(text))
    config["Env"] = [f"{name}={value}" for name, value in variables.items()]


def _label(config: _Config, text: str) -> None:
    config["Labels"] = _mapping(config, "Labels") | dict(_pairs(text))


def _workdir(config: _Config, text: str) -> None:
    if not text.startswith("/"):
        raise ValueError("the path must be absolute")
    config["WorkingDir"] = text


def _user(config: _Config, text: str) -> None:
    config["User"] = text


def _expose(config: _Config, text: str) -> None:
    ports = [port if "/" in port else f"{port}/tcp" for port in text.split()]
    if not all(port.partition("/")[0].replace("-", "", 1).isdigit() for port in ports):
        raise ValueError("a port is a number, or a range of them")
    config["ExposedPorts"] = _mapping(config, "ExposedPorts") | {port: {} for port in ports}


def _volume(config: _Config, text: str) -> None:
    paths = _words(text) if text.startswith("[") else text.split()
    config["Volumes"] = _mapping(config, "Volumes") | {path: {} for path in paths}


def _mapping(config: _Config, key: str) -> dict[str, object]:
    before = config.get(key)
    return dict(before) if isinstance(before, Mapping) else {}


_INSTRUCTIONS: dict[str, Callable[[_Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
