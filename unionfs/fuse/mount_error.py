"""The error of mounting and unmounting."""

from __future__ import annotations


class MountError(OSError):
    """Mounting or unmounting failed.

    ``errno`` says how, ``filename`` what it is about (a path or an option), ``strerror`` the problem and the remedy; ``str()`` is
    the one line to print."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"

    def __init__(self, number: int, thing: str, problem: str) -> None:
        super().__init__(number, problem, thing)
