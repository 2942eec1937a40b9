"""The option ``size``: what its values mean, and what it brings along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unionfs.mounter.errors import OptionError
from unionfs.mounter.options import parse_options, parse_size
from unionfs.mounter.request import build_request
from unionfs.mounter.size_limits import settled


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("1k", 1024), ("10M", 10 << 20), ("10G", 10 << 30), ("2TiB", 2 << 40), ("3mb", 3 << 20)]
)
def test_suffixes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "-1", "1.5G", "10P", "G", "1 G", "9999999999999T"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="bad value"):
        parse_options([f"size={text}"])


def test_size_brings_the_cached_data_path_where_the_daemon_counts(tmp_path: Path) -> None:
    options = parse_options([f"lowerdir={tmp_path},upperdir={tmp_path},size=1G"])
    request = build_request(options, tmp_path)
    assert (request.size, request.data_path) == (1 << 30, "auto")
    counted, project = settled(request, None)
    assert (counted.data_path, project) == ("cached", None)
    assert settled(replace(request, size=None), None) == (replace(request, size=None), None)
