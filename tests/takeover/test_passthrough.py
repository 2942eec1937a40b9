"""Files that the kernel has open in passthrough stay open over the death of a worker, and nothing stays registered for good.

Here the workers die around each change of what is registered; `scripts/takeover` has all of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.takeover.more_operations import OPENED
from tests.takeover.trials import Death, differences, run
from unionfs.overlay import Options

_OPTIONS = Options(fsync="volatile")


@pytest.mark.parametrize("name", OPENED)
def test_open_files_stay_open_over_a_death(name: str, tmp_path: Path) -> None:
    operation = OPENED[name]
    reference = run(tmp_path / "reference", _OPTIONS, operation, passthrough=True)
    assert reference.problems == reference.log == []
    changes = [at for at, step in enumerate(reference.steps) if step.startswith("BACKING")]
    assert changes
    places = sorted({near for at in changes for near in (at, at + 1, at + 2, at + 4)} & set(range(len(reference.steps))))
    wrong = [
        problem
        for at in places
        for problem in differences(run(tmp_path / str(at), _OPTIONS, operation, Death((at,)), passthrough=True), reference)
    ]
    assert wrong == []


@pytest.mark.parametrize("how", ["removal", "replacement"])
def test_open_file_is_used_on_when_what_stands_for_it_loses_its_name_with_the_death(how: str, tmp_path: Path) -> None:
    operation = OPENED[f"{how} of an open file that was copied up"]
    reference = run(tmp_path / "reference", _OPTIONS, operation, passthrough=True)
    places = [at for at, step in enumerate(reference.steps) if step == "journal number 0"]
    assert places
    runs = [run(tmp_path / str(at), _OPTIONS, operation, Death((at,)), passthrough=True) for at in places]
    assert [problem for found in runs for problem in differences(found, reference)] == []
