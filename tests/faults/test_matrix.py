"""A call that fails in the midst of an operation leaves what was before or what comes after, and nothing else.

The whole matrix is `scripts/faults`; here some of the calls of each operation fail, the errors in turn (``UNIONFS_FAULTS=all``:
each call with each error, once and from then on).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.operations import CONFIGURATIONS

COMPLETE = os.environ.get("UNIONFS_FAULTS") == "all"


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_failed_call_leaves_the_state_before_or_after(configuration: str, tmp_path: Path) -> None:
    cells = [
        cell
        for number, name in enumerate(CONFIGURATIONS[configuration][1])
        for cell in matrix.run(tmp_path / str(number), configuration, name, complete=COMPLETE)
    ]
    assert len(cells) > len(CONFIGURATIONS[configuration][1])
    assert [problem for cell in cells for problem in cell.problems()] == []


@pytest.mark.expects_log_error("snapshot 1 is taken, but could not be finished")
def test_failed_call_of_a_snapshot_leaves_one_or_none(tmp_path: Path) -> None:
    cells = list(matrix.run_snapshots(tmp_path, complete=COMPLETE))
    assert len(cells) > 5
    assert {cell.outcome.is_done for cell in cells} == {True, False}
    assert [problem for cell in cells for problem in cell.problems()] == []
