"""What is sent to a plugin and what its answers mean.  Does no input or output.

As docker's client (moby, daemon/volume/drivers/proxy.go): bodies are JSON and end with a newline, keys of answers are taken
whatever their case (Go's encoding/json), null is as good as nothing, and ``Err`` that is not empty is an error whatever the
status.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from unionfs.volumes.drivers.plugin.errors import PluginAnswerError, PluginRefusedError, shortened
from unionfs.volumes.drivers.plugin.transport import Answer

VOLUME_DRIVER = "VolumeDriver"
LOCAL, GLOBAL = "local", "global"


@dataclass(frozen=True)
class PluginVolume:
    """A volume as its plugin tells of it.  ``mountpoint``: "" where it is not mounted; ``status``: whatever the plugin likes;
    ``created``: seconds since the epoch, None where it does not say."""

    name: str
    mountpoint: str = ""
    status: Mapping[str, object] = field(default_factory=dict, hash=False)
    created: float | None = None


def encode(arguments: Mapping[str, object] | None) -> bytes:
    """A body; without arguments an empty one."""
    return b"" if arguments is None else json.dumps(arguments).encode() + b"\n"


class Reader:
    """Reads the answers of ``plugin`` to ``call``.

    All methods raise PluginRefusedError where the plugin answered that it failed, PluginAnswerError where the answer makes no
    sense.
    """

    def __init__(self, plugin: str, call: str) -> None:
        self._plugin = plugin
        self._call = call

    # -- the answers of the calls -----------------------------------------------------------------------------------------

    def nothing(self, answer: Answer) -> None:
        """Of a call that only succeeds or fails."""
        self._object(answer)

    def subsystems(self, answer: Answer) -> list[str]:
        """Of Activate: what the plugin is for."""
        found = self._field(self._object(answer), "Implements", list, 'a list "Implements"') or []
        if not all(isinstance(each, str) for each in found):
            self._fail(f"Implements is {_shown(found)}", 'a list of strings "Implements"')
        return found

    def mountpoint(self, answer: Answer) -> str:
        """Of Mount and Path: where the volume is, an absolute path; "" where the plugin does not say."""
        return self._mountpoint(self._object(answer))

    def volume(self, answer: Answer, name: str) -> PluginVolume | None:
        """Of Get for ``name``; None: the plugin has no such volume and makes no error of it."""
        found = self._field(self._object(answer), "Volume", dict, 'an object "Volume"')
        if found is None:
            return None
        volume = self._volume(found)
        if volume.name != name:
            self._fail(f"it answered with the volume {_shown(volume.name)}", f"that of the volume asked for, {name}")
        return volume

    def volumes(self, answer: Answer) -> list[PluginVolume]:
        """Of List."""
        found = self._field(self._object(answer), "Volumes", list, 'a list "Volumes"') or []
        for each in found:
            if not isinstance(each, dict):
                self._fail(f"a volume is {_shown(each)}", "an object for each volume")
        return [self._volume(each) for each in found]

    def scope(self, answer: Answer) -> str:
        """Of Capabilities: `LOCAL` or `GLOBAL`."""
        capabilities = self._field(self._object(answer), "Capabilities", dict, 'an object "Capabilities"') or {}
        scope = (self._field(capabilities, "Scope", str, 'a string "Scope"') or LOCAL).lower()
        if scope not in (LOCAL, GLOBAL):
            self._fail(f"Scope is {_shown(scope)}", f'"{LOCAL}" or "{GLOBAL}"')
        return scope

    # -- parts of them ----------------------------------------------------------------------------------------------------

    def _object(self, answer: Answer) -> dict[str, Any]:
        """The answer as JSON, if it is that of a call that succeeded."""
        try:
            found = json.loads(answer.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            if not answer.is_ok:
                self._refused(answer, _text(answer.body))
            problem = f"not JSON: {error}: {_text(answer.body)!r}" if answer.body.strip() else "the answer is empty"
            raise PluginAnswerError(self._plugin, self._call, problem, "a JSON object") from error
        said = _lookup(found, "Err") if isinstance(found, dict) else None
        if not answer.is_ok:
            self._refused(answer, said if said and isinstance(said, str) else _text(answer.body))
        if not isinstance(found, dict):
            self._fail(f"the answer is {_shown(found)}", "a JSON object")
        if said is not None and not isinstance(said, str):
            self._fail(f"Err is {_shown(said)}", 'a string "Err"')
        if said:
            self._refused(answer, said)
        return found

    def _volume(self, found: dict[str, Any]) -> PluginVolume:
        name = self._field(found, "Name", str, 'a string "Name"')
        if not name:
            self._fail(f"a volume without a name: {_shown(found)}", 'a string "Name"')
        return PluginVolume(
            name=name,
            mountpoint=self._mountpoint(found),
            status=self._field(found, "Status", dict, 'an object "Status"') or {},
            created=self._moment(self._field(found, "CreatedAt", str, 'a string "CreatedAt"')),
        )

    def _mountpoint(self, found: dict[str, Any]) -> str:
        expected = 'an absolute path "Mountpoint"'
        path: str = self._field(found, "Mountpoint", str, expected) or ""
        if path and (not os.path.isabs(path) or "\0" in path or not _is_utf8(path)):
            self._fail(f"Mountpoint is {_shown(path)}", expected)
        return path

    def _moment(self, text: str | None) -> float | None:
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                self._fail(f"CreatedAt is {_shown(text)}", "a time with its zone, as in RFC 3339")
            return max(moment.timestamp(), 0.0)  # Go's zero time is of the year 1
        except (ValueError, OverflowError):
            return self._fail(f"CreatedAt is {_shown(text)}", "a time as in RFC 3339")

    def _field(self, found: dict[str, Any], key: str, kind: type, expected: str) -> Any:
        value = _lookup(found, key)
        if value is not None and not isinstance(value, kind):
            self._fail(f"{key} is {_shown(value)}", expected)
        return value

    def _refused(self, answer: Answer, said: str) -> NoReturn:
        raise PluginRefusedError(self._plugin, self._call, answer.status, said or f"HTTP status {answer.status}")

    def _fail(self, problem: str, expected: str) -> NoReturn:
        raise PluginAnswerError(self._plugin, self._call, problem, expected)


def _lookup(found: dict[str, Any], key: str) -> Any:
    if key in found:
        return found[key]
    wanted = key.lower()
    return next((value for other, value in found.items() if other.lower() == wanted), None)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(body: bytes) -> str:
    return shortened(body.decode(errors="replace"))


def _shown(value: object) -> str:
    return shortened(json.dumps(value))
