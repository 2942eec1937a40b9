"""A run by several workers (``pytest -n``, by pytest-xdist): which of them does what, and how the run stops."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.workermanage import parse_tx_spec_config

from tests.schedule import Schedule

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

START = "import os; os.setpgid(0, 0); channel.send(os.getpid())"
"""What a worker does before anything else.  In a process group of its own it is not reached by ctrl-C, which would come to it
twice otherwise, from the terminal and from us; and the second would end its teardowns."""


def shorten_basetemp(config: pytest.Config) -> None:
    """In a worker, let its temporary directory be ``1`` in that of the run, not ``popen-gw1``: paths of sockets have 107
    characters at most, and the programs that tests run make long ones.  To be called before pytest's plugins are configured."""
    if hasattr(config, "workerinput"):
        given = Path(config.option.basetemp)
        config.option.basetemp = str(given.with_name(given.name.removeprefix("popen-gw")))


class Distributor:
    """Hooks of the process that distributes; without one they are not called, or find nothing to do."""

    def __init__(self) -> None:
        self._process: dict[WorkerController, int] = {}
        self._running: list[WorkerController] = []

    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> Schedule | None:
        # Another --dist than the one that -n means is the user's wish.
        return Schedule(config, len(parse_tx_spec_config(config))) if config.getoption("dist") == "load" else None

    def pytest_configure_node(self, node: WorkerController) -> None:
        self._process[node] = node.gateway.remote_exec(START).receive()

    def pytest_testnodeready(self, node: WorkerController) -> None:
        self._running.append(node)

    def pytest_testnodedown(self, node: WorkerController) -> None:
        if node in self._running:
            self._running.remove(node)

    def pytest_keyboard_interrupt(self) -> None:
        """Interrupt the workers and let them tear down what their tests have made; pytest-xdist would kill them after 10 s."""
        for worker in self._running:
            os.kill(self._process[worker], signal.SIGINT)
        for worker in self._running:
            with contextlib.suppress(EOFError, worker.channel.RemoteError):  # however it ends: it has ended
                worker.channel.waitclose()
