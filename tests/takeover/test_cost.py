"""The measurement of what the journal costs, at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.takeover import cost
from tests.takeover.cost import OPERATIONS, measure


@pytest.mark.parametrize("data_path", ["passthrough", "cached"])
def test_both_mounts_do_all_operations(data_path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cost, "BATCH", 5)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    measured = measure(data_path, 3)
    assert [each.name for each in measured] == [operation.name for operation in OPERATIONS]
    assert all(each.low <= each.ratio <= each.high and each.with_journal > 0 < each.without for each in measured)
