"""docs/conformance.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_defect_of_others_has_its_tests() -> None:
    table = (ROOT / "docs/conformance.md").read_text().partition("## Defects of others")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/\S+\.py)`: ((?:`test_\w+`(?:, )?)+)", row)
        assert named, row
        for path, tests in named:
            source = (ROOT / path).read_text()
            assert [name for name in re.findall(r"\w+", tests) if f"def {name}(" not in source] == [], path
