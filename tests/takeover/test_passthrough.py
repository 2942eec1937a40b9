"""Files that the kernel has open in passthrough stay open over the death of a worker, and nothing stays registered for good."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.faults.operations import Operation
from tests.overlay.client import ROOT, Client
from tests.takeover.kernel import Kernel
from tests.takeover.more_operations import each
from tests.takeover.trials import Death, differences, run
from unionfs.filesystem import SET_MODE, Changes
from unionfs.overlay import Options

Calls = Iterable[Callable[[], object]]

_OPTIONS = Options(fsync="volatile")


def _lower_opened_for_writing(client: Client, kernel: Kernel) -> Calls:
    """The copy-up while it is open for reading leaves the node behind (ESTALE); its name leads to another one."""
    place, node = client.place("d/f"), client.node("d/f")
    successors: list[int] = []
    yield lambda: kernel.open(node, os.O_RDONLY)
    yield lambda: kernel.open(node, os.O_RDONLY)
    yield lambda: kernel.open(node, os.O_RDWR)
    yield lambda: successors.append(kernel.lookup(*place).node)  # type: ignore[union-attr]
    yield lambda: kernel.open(successors[0], os.O_RDWR)
    yield lambda: kernel.setattr(node, Changes(SET_MODE, mode=0o600))
    yield lambda: kernel.getattr(successors[0])
    yield lambda: kernel.release(node)
    yield lambda: kernel.release(node)
    yield lambda: kernel.release(successors[0])


def _removed_while_open(client: Client, kernel: Kernel) -> Calls:
    place, node = client.place("d/h"), client.node("d/h")
    made: list[int] = []
    yield lambda: kernel.open(node, os.O_RDWR | os.O_TRUNC)
    yield lambda: kernel.unlink(*place)
    yield lambda: made.append(kernel.create(*place, os.O_RDWR, 0o600, ROOT)[0].node)
    yield lambda: kernel.open(made[0], os.O_RDONLY)
    yield lambda: kernel.release(made[0])
    yield lambda: kernel.release(node)
    yield lambda: kernel.release(made[0])


@pytest.mark.parametrize("calls", [_lower_opened_for_writing, _removed_while_open])
def test_open_files_stay_open_over_a_death(calls: Callable[[Client, Kernel], Calls], tmp_path: Path) -> None:
    operation = Operation(each(calls))
    reference = run(tmp_path / "reference", _OPTIONS, operation, passthrough=True)
    assert reference.problems == reference.log == []
    assert "BACKING_OPEN" in reference.steps
    # One of each kind of step suffices where many are of it.
    places = {step + reference.steps[max(at - 1, 0)]: at for at, step in enumerate(reference.steps)}
    wrong = [
        problem
        for at in places.values()
        for problem in differences(run(tmp_path / str(at), _OPTIONS, operation, Death((at,)), passthrough=True), reference)
    ]
    assert wrong == []
