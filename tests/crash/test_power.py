"""A disk that loses its power keeps what was promised, and shows every change done or not done.

All changes on all filesystems are `scripts/crash`; here some, on ext4.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.disk import EXT4, Disk
from tests.crash.matrix import all_groups, all_promises
from tests.crash.power import broken_promises, cuts
from tests.crash.scenario import Act, Found, Outcome

CHANGES = {"durable": ("write to a large file",), "index": ("rename over a name",)}
PROMISES = {"auto": ("replace", "removal of a tree"), "metacopy": ("write to a large file",), "store": ("import of an image",)}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "run"))
    return Disk(tmp_path / "disk", EXT4)


def test_change_without_power_is_done_or_not_done(disk: Disk) -> None:
    groups = all_groups(is_durable=True)
    changes = {f"{group}, {name}": groups[group][name] for group, names in CHANGES.items() for name in names}
    found = list(cuts(disk, changes))
    assert {cut.name for cut in found if cut.judgement.outcome is Outcome.BEFORE} == set(changes)
    assert {cut.name for cut in found if cut.judgement.outcome in (Outcome.AFTER, Outcome.BEHIND)} == set(changes)
    assert [(cut.name, cut.call, cut.judgement.problems) for cut in found if cut.judgement.problems] == []


def test_what_fsync_promised_is_there(disk: Disk) -> None:
    groups = all_promises()
    changes = {f"{group}, {name}": groups[group][name] for group, names in PROMISES.items() for name in names}
    found = {cut.name: cut.judgement for cut in broken_promises(disk, changes)}
    assert found.keys() == changes.keys()
    assert [(name, judgement) for name, judgement in found.items() if judgement != (Outcome.AFTER, [])] == []


# -- that it would be seen ----------------------------------------------------------------------------------------------------


class _NewName:
    """A file is written and gets its name, durable or not."""

    def __init__(self, is_durable: bool) -> None:
        self._is_durable = is_durable

    def make(self, top: Path) -> None:
        top.mkdir(parents=True)

    def begin(self, top: Path) -> Act:
        def act() -> None:
            fd = os.open(top, os.O_TMPFILE | os.O_WRONLY)
            os.write(fd, b"data")
            if self._is_durable:
                os.fsync(fd)
            os.link(f"/proc/self/fd/{fd}", top / "file", src_dir_fd=os.open("/", os.O_RDONLY), follow_symlinks=True)

        return act

    def look(self, top: Path, *, last: bool = True) -> Found:
        del last
        return Found({path.name: path.read_bytes() for path in top.iterdir()}, {}, [])


def test_name_of_a_file_that_lacks_its_data_is_found_to_be_wrong(disk: Disk) -> None:
    found = list(cuts(disk, {"safe": _NewName(is_durable=True), "unsafe": _NewName(is_durable=False)}))
    outcomes = Counter((cut.name, cut.judgement.outcome) for cut in found)
    assert outcomes["safe", Outcome.AFTER] == 1
    assert outcomes["safe", Outcome.WRONG] == 0
    assert outcomes["unsafe", Outcome.WRONG] == 1


def test_promise_that_nobody_kept_is_found_to_be_broken(disk: Disk) -> None:
    (cut,) = broken_promises(disk, {"unsafe": _NewName(is_durable=False)})
    assert cut.judgement.outcome is Outcome.BEFORE
