"""Sizes and times as people are shown them."""

from __future__ import annotations

import pytest

from unionfs.cli.units import figure_text, size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234, "1.23kB"),
        (99_950, "100kB"),
        (999_400, "999kB"),
        (999_500, "1MB"),
        (1_500_000_000, "1.5GB"),
        (2_000_000_000_000, "2TB"),
        (1_234_000_000_000_000, "1234TB"),
    ],
)
def test_size_has_three_digits_in_decimal_units(size: int, text: str) -> None:
    assert size_text(size) == text


def test_figures_of_inspect_are_shown_by_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert figure_text("size", 1500) == "1.5kB"
    assert str(figure_text("created", 0.0)).startswith(("1970-01-01", "1969-12-31"))
    assert figure_text("names", ["a", "b"]) == "a, b"
    assert figure_text("skipped", None) is None
    assert figure_text("id", "sha256:0") == "sha256:0"
