"""The one kind of error that the mounter shows to a user: which thing, what is wrong with it, what to do about it."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\udc80-\udcff\\]")


def printable(text: str) -> str:
    """``text`` on one line and safe for a terminal: control characters and bytes that are not UTF-8 as ``\\xNN``, a backslash
    doubled."""
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    # os.fsdecode keeps byte 0xNN that is not UTF-8 as U+DCNN.
    return "\\\\" if character == "\\" else f"\\x{ord(character) & 0xFF:02x}"


class MounterError(Exception):
    """Something was refused or failed.  ``str()`` is one line, ``thing: problem; remedy``, fit to print after the program's name.

    ``exit_status`` is what a command ends with: 1, or 2 for wrong usage.
    """

    exit_status = 1

    def __init__(self, thing: str, problem: str, remedy: str | None = None) -> None:
        super().__init__(thing, problem, remedy)
        self.thing = thing
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        line = f"{printable(self.thing)}: {printable(self.problem)}"
        return f"{line}; {printable(self.remedy)}" if self.remedy else line


class OptionError(MounterError):
    """A mount option that is unknown, malformed, not supported, or contradicts another."""

    exit_status = 2


class RefusedError(MounterError):
    """The layers or the mount point are not fit to be mounted."""


class NotMountedError(MounterError):
    """There is no union of ours at that path."""


class DaemonError(MounterError):
    """The daemon of a mount failed or does not answer."""


def from_os_error(error: OSError, thing: str | None = None, remedy: str | None = None) -> MounterError:
    """``error`` as a `MounterError`; the thing is the error's file name where ``thing`` is not given."""
    name = error.filename
    if isinstance(name, bytes):
        name = name.decode(errors="surrogateescape")
    return MounterError(thing or (str(name) if name is not None else "system"), error.strerror or str(error), remedy)
