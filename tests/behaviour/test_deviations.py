"""docs/deviations.md and the tests agree: what is declared is tested, and for backends that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mounts import OURS

from . import deviations


def test_every_declared_deviation_is_met_by_a_test() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    met = set(re.findall(r'\.deviates\(\s*"([^"]+)"', sources))
    assert met == deviations.declared().keys()


def test_every_heading_of_the_document_declares_its_backends() -> None:
    headings = re.findall(r"^### (.+)$", deviations.DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(deviations.declared())
    for name, backends in deviations.declared().items():
        assert backends <= {backend.name for backend in OURS}, name


def test_undeclared_deviation_cannot_be_used() -> None:
    with pytest.raises(KeyError):
        deviations.choose("no-such-deviation", "direct", kernel=1, ours=2)
