"""Very many files in one directory."""

from __future__ import annotations

import os

from tests.behaviour.union import Mounted

from .mounted import mounting
from .scale import NAMES


def test_large_lower_directory_is_listed_changed_and_listed_again(unmounted_ours: Mounted) -> None:
    names = [f"name{number}" for number in range(NAMES)]
    _make(os.fspath(unmounted_ours.lowers[0]), names)
    removed, moved = names[::50], names[1::50]
    with mounting(unmounted_ours) as top:
        assert sorted(os.listdir(top)) == sorted(names)
        with os.scandir(top) as entries:
            assert sum(entry.stat().st_size == 0 for entry in entries) == NAMES
        for name in removed:
            os.unlink(top / name)
        for name in moved:
            os.rename(top / name, top / f"moved-{name}")
        left = (set(names) - {*removed, *moved}) | {f"moved-{name}" for name in moved}
        assert set(os.listdir(top)) == left
    with mounting(unmounted_ours) as top:
        assert set(os.listdir(top)) == left


def test_directory_takes_as_many_new_files_and_loses_them_while_it_is_read(unmounted_ours: Mounted) -> None:
    names = [f"name{number}" for number in range(NAMES)]
    with mounting(unmounted_ours) as merged:
        top = os.fspath(merged)
        _make(top, names)
        assert sorted(os.listdir(top)) == sorted(names)
        with os.scandir(top) as entries:
            for entry in entries:
                os.unlink(entry.path)
        assert os.listdir(top) == []
    assert os.listdir(unmounted_ours.upper) == []


def _make(directory: str, names: list[str]) -> None:
    for name in names:
        os.close(os.open(f"{directory}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
