"""A load on a union: its clients, and what disturbs them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.load.client import Report
from tests.load.disturbances import Disturbance
from tests.load.progress import STALLED, Progress, StalledError
from tests.load.world import World

_ROOT = Path(__file__).parents[2]
_LOOK = 0.1
"""Seconds between two looks whether it is time to end."""


@dataclass
class Result:
    """What came of a load."""

    reports: list[Report] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What went wrong besides the failures of the reports."""

    @property
    def operations(self) -> int:
        return sum(report.operations for report in self.reports)

    @property
    def errors(self) -> int:
        """Failures that are errors which the plain directory did not give."""
        return sum(report.is_error for report in self.reports)

    @property
    def differences(self) -> int:
        """All other failures."""
        return sum(bool(report.failure) for report in self.reports) - self.errors

    @property
    def longest_seconds(self) -> float:
        """How long the slowest operation took."""
        return max((report.longest_ns for report in self.reports), default=0) / 1e9

    def failures(self) -> list[str]:
        """All that is wrong, one line each; empty if nothing is."""
        return [*(report.failure for report in self.reports if report.failure), *self.problems]


class Load:
    """One client for each part of ``world``, which is mounted and copied; client N has the seed ``seed`` + N."""

    def __init__(self, world: World, seed: int, disturbances: Sequence[Disturbance] = (), steps: int = 0) -> None:
        """``steps`` of each client; 0: as many as there are until the load is ended."""
        self._world, self._seed, self._steps = world, seed, steps
        self._disturbances = disturbances
        self._progress = Progress()
        self._problems: list[str] = []

    def run(self, is_over: Callable[[], bool]) -> Result:
        """Let the clients work until ``is_over``, something is wrong, or all have done their steps; then end what disturbs, and
        the clients."""
        clients = [self._start(number) for number in range(len(self._world.parts))]
        threads = [threading.Thread(target=self._disturb, args=(each,), name=each.name) for each in self._disturbances]
        for thread in threads:
            thread.start()
        try:
            while not is_over() and not self._problems and _go_on(clients):
                self._progress.pause(_LOOK)
        finally:
            self._progress.end()
            for thread in threads:
                thread.join()
            for client in clients:
                _close_input(client)
            reports = [self._end(client) for client in clients]
            self._progress.close()
        return Result([report for report in reports if report is not None], self._problems)

    def _start(self, number: int) -> subprocess.Popen[str]:
        part, fd = self._world.parts[number], self._progress.write_end
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "tests.load.client",
            self._world.merged / part,
            self._world.plain / part,
        ]
        command += [f"{self._seed + number}", f"--steps={self._steps}", f"--progress={fd}"]
        if self._world.readers_may_lag:
            command.append("--may-lag")
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=_ROOT, pass_fds=[fd], text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def _end(self, client: subprocess.Popen[str]) -> Report | None:
        """Wait for the end of a client; its report, if there is one."""
        try:
            stdout, stderr = client.communicate(timeout=STALLED)
        except subprocess.TimeoutExpired:
            self._problems.append(f"client {client.pid} does not end; its mount is taken away")
            self._world.abort()
            stdout, stderr = client.communicate()
        if stderr:
            self._problems.append(f"client {client.pid}, exit status {client.returncode}: {stderr}")
        if not stdout:
            self._problems.append(f"client {client.pid}: no report, exit status {client.returncode}")
            return None
        return Report(**json.loads(stdout))

    def _disturb(self, disturbance: Disturbance) -> None:
        try:
            disturbance.run(self._progress)
        except StalledError as stalled:
            self._problems.append(f"{disturbance.name}: {stalled}")
            self._world.abort()
        except Exception as error:
            self._problems.append(f"{disturbance.name}: {type(error).__name__}: {error}")


def _go_on(clients: list[subprocess.Popen[str]]) -> bool:
    """Whether there is still one at work, and none has failed."""
    states = [client.poll() for client in clients]
    return None in states and all(state in (None, 0) for state in states)


def _close_input(client: subprocess.Popen[str]) -> None:
    """Which tells a client to end."""
    assert client.stdin is not None
    client.stdin.close()
    client.stdin = None
