"""How a plugin fails.  Every error names the plugin and what was asked of it."""

from __future__ import annotations

from unionfs.store.errors import StoreError
from unionfs.volumes.drivers import AwayError

_LONGEST = 1000  # characters of what a plugin says: a page of its stack trace helps nobody


class PluginError(StoreError):
    """A volume plugin did not do what was asked of it."""

    def __init__(self, plugin: str, problem: str, remedy: str) -> None:
        super().__init__(f"volume plugin {plugin}", problem, remedy)


class PluginUnreachableError(PluginError, AwayError):
    """Nothing was sent: whatever was asked for has not been done.  ``may_pass``: it may be different in a moment."""

    def __init__(self, plugin: str, problem: str, remedy: str, *, may_pass: bool = True) -> None:
        super().__init__(plugin, problem, remedy)
        self.may_pass = may_pass


class NoVolumePluginError(PluginError):
    """The plugin is one for something else, such as networks."""


class PluginSilentError(PluginError, AwayError):
    """Something was sent and no whole answer came: what was asked for may have been done."""


class PluginRefusedError(PluginError):
    """The plugin answered that it failed; ``said`` is its own word, ``status`` the HTTP status."""

    def __init__(self, plugin: str, call: str, status: int, said: str) -> None:
        super().__init__(plugin, f"{call} failed: {shortened(said)}", "see the log of the plugin")
        self.status = status
        self.said = said


class PluginAnswerError(PluginError):
    """The plugin answered something that the protocol does not know; the error says what was expected."""

    def __init__(self, plugin: str, call: str, problem: str, expected: str) -> None:
        super().__init__(plugin, f"{call}: {shortened(problem)}", f"the protocol wants {expected}: mend or update the plugin")


def shortened(text: str) -> str:
    """``text``, if it is not too long to be read, in characters that every output can show."""
    text = text.encode(errors="replace").decode().strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
