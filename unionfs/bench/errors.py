"""What can go wrong in a benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark, or one measurement of it, cannot be done.  ``str()`` is one line: thing, problem, remedy."""


class WrongResultError(BenchError):
    """The work was not done: a union that is fast because it does something else is not measured."""


class TimeLimitError(BenchError):
    """A measurement took longer than it may; what it used was taken away."""


class EndedError(BaseException):
    """The process was told to end by a signal (SIGTERM, SIGHUP).  Not an `Exception`: nothing but the clean-up may stop it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
