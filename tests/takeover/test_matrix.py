"""A worker that dies is replaced, and nobody can tell: whatever the operation, and whatever was its last step.

The whole matrix is `scripts/takeover`; here workers die before some of the steps of some of the operations.
"""

from __future__ import annotations

from pathlib import Path

from tests.takeover.matrix import run_some


def test_death_of_a_worker_shows_nowhere(tmp_path: Path) -> None:
    cells = list(run_some(tmp_path))
    assert [problem for cell in cells for problem in cell.problems] == []
    assert all(cell.run.deaths for cell in cells)
    answered = sum(cell.run.answered for cell in cells)
    assert 0 < answered < sum(cell.run.resent for cell in cells)
