"""Which ids a user maps, by the files that say which are his."""

from __future__ import annotations

from pathlib import Path

import pytest

from unionfs.linux.user_namespaces import IdRange, contains
from unionfs.rootless import subordinate_ids
from unionfs.rootless.subordinate_ids import id_maps

UID, GID = 65534, 65533  # 65534 is nobody everywhere


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for constant, name in (("SUBUID", "subuid"), ("SUBGID", "subgid")):
        monkeypatch.setattr(subordinate_ids, constant, tmp_path / name)
    return tmp_path


def write(files: Path, uids: str, gids: str) -> None:
    (files / "subuid").write_text(uids)
    (files / "subgid").write_text(gids)


def test_root_is_the_user_and_his_ranges_follow_without_a_gap(files: Path) -> None:
    write(files, "nobody:100000:65536\nother:1:9\nnobody:500000:10\n", "65534:200000:5\n")
    assert id_maps(UID, GID) == (
        [IdRange(0, UID, 1), IdRange(1, 100000, 65536), IdRange(65537, 500000, 10)],
        [IdRange(0, GID, 1), IdRange(1, 200000, 5)],
    )


def test_malformed_lines_and_empty_ranges_are_passed_over(files: Path) -> None:
    write(files, "nobody:x:1\nnobody:5\n\nnobody:7:0\nnobody:9:2\n", "nobody:3:1:4\nnobody:9:2\n")
    assert id_maps(UID, GID) == ([IdRange(0, UID, 1), IdRange(1, 9, 2)], [IdRange(0, GID, 1), IdRange(1, 9, 2)])


@pytest.mark.parametrize(("uids", "gids"), [("", ""), ("nobody:1:9\n", ""), ("", "nobody:1:9\n"), ("other:1:9\n", "other:1:9\n")])
def test_without_ranges_of_both_kinds_there_are_no_maps(files: Path, uids: str, gids: str) -> None:
    write(files, uids, gids)
    assert id_maps(UID, GID) is None


@pytest.mark.usefixtures("files")
def test_without_the_files_there_are_no_maps() -> None:
    assert id_maps(UID, GID) is None


def test_ids_at_the_ends_of_a_range_are_in_it_and_those_beside_are_not() -> None:
    ranges = [IdRange(0, 1000, 1), IdRange(5, 100, 3)]
    assert [number for number in range(10) if contains(ranges, number)] == [0, 5, 6, 7]
