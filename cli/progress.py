"""Progress bars on a terminal, nothing in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from unionfs.store.progress import Progress


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
    """What draws a bar for each piece of work on stderr, until the end of the block."""
    if not sys.stderr.isatty():
        from unionfs.store.progress import NoProgress

        yield NoProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    text = TextColumn("{task.description}", markup=False)  # a file name may hold square brackets
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    try:
        yield _Drawn(bars)
    finally:
        bars.stop()


class _Drawn:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def begin(self, what: str, total: int | None) -> Callable[[int], None]:
        # Not before: a program that we run first (skopeo) may draw bars of its own.
        self._bars.start()
        task = self._bars.add_task(what, total=total)
        return lambda count: self._bars.advance(task, count)
