"""The measurement of what the journal costs, at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.takeover.cost import measure
from tests.takeover.cost_work import PROGRAMS, REQUESTS, Work


@pytest.mark.parametrize("data_path", ["passthrough", "cached"])
@pytest.mark.parametrize("work", [REQUESTS, PROGRAMS], ids=["requests", "programs"])
def test_all_is_done_with_a_journal_and_without(
    work: Work, data_path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    measured = measure(work, data_path, 2)
    assert [each.name for each in measured] == [operation.name for operation in work.operations]
    assert all(each.low <= each.ratio <= each.high and each.with_journal > 0 < each.without for each in measured)
