"""Input data."""

from __future__ import annotations

from pathlib import Path

import pytest

from unionfs.bench.corpora import BLOCK, Corpora, random_blocks, write_small_files


def test_corpus_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("data")

    assert Corpora(tmp_path).get("file", make).read_text() == "data"
    assert Corpora(tmp_path).get("file", make) == tmp_path / "file"
    assert len(made) == 1


def test_corpus_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        (path / "half").mkdir(parents=True)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        Corpora(tmp_path).get("tree", make)
    assert list(tmp_path.iterdir()) == []


def test_scale_leaves_at_least_one(tmp_path: Path) -> None:
    assert [Corpora(tmp_path, 0.05).scaled(n) for n in (1, 30, 5000)] == [1, 2, 250]


def test_random_data_is_the_same_each_time_and_full(tmp_path: Path) -> None:
    once, again = (list(random_blocks(BLOCK + 10, seed=1)) for _ in range(2))
    assert once == again
    assert list(map(len, once)) == [BLOCK, 10]
    write_small_files(tmp_path, {"a/b": 4096, "c": 0}, seed=1)
    assert ((tmp_path / "a/b").stat().st_size, (tmp_path / "c").stat().st_size) == (4096, 0)
    assert len(set((tmp_path / "a/b").read_bytes())) > 200
