"""The faults that once did harm, each in the operation in which it was found."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import snapshots
from tests.faults.cells import Outcome, Reference, refer, try_fault
from tests.faults.injection import Fault
from tests.faults.operations import CONFIGURATIONS


def outcomes(
    directory: Path, reference: Reference, call: str, number: int, attempt: Callable[[Path, Fault], Outcome]
) -> list[Outcome]:
    """Let each call of that name fail once."""
    positions = [position for position, (name, _) in enumerate(reference.calls) if name == call]
    assert positions
    return [attempt(directory / str(position), Fault(number, position)) for position in positions]


@pytest.mark.parametrize(
    ("configuration", "operation", "call", "number"),
    [
        # The copy was in place, but not known: the next attempt met it (EEXIST), and what was truncated was empty.
        ("plain", "chmod", "utime", errno.EDQUOT),
        ("plain", "truncate to nothing", "utime", errno.EDQUOT),
        # The descriptor of what was staged stayed open.
        ("plain", "mkdir", "fstat", errno.EIO),
        ("index and metacopy", "write after chmod of another name", "fstat", errno.EIO),
        # It was there, and not seen until the next mount.
        ("plain", "create", "fstat", errno.ENOMEM),
        ("plain", "link of an upper file", "stat", errno.ENOMEM),
        # It was renamed, and seen by its old name, where it could not be opened.
        ("plain", "rename over a whiteout of a directory", "unlink", errno.EIO),
        ("whiteouts as attributes", "rename of a lower file", "setxattr", errno.EDQUOT),
        ("whiteouts beside", "rename over a whiteout", "unlink", errno.EIO),
        # Empty, with the time of the lower file, though an error was reported.
        ("plain", "open with O_TRUNC", "fstat", errno.ENOMEM),
        # The copy of an unnamed file could not be held, and was taken for the file.
        ("plain", "write to a removed file", "open", errno.EMFILE),
        # The count of names was wrong from the next mount on.
        ("index", "link", "link", errno.ENOSPC),
        ("index", "unlink of a lower file", "setxattr", errno.EROFS),
        # The mark of a metadata-only copy was gone, and each later write failed for the lack of it (ENODATA).
        ("index and metacopy", "write after chmod of another name", "removexattr", errno.ENOMEM),
        # It was hidden, and still seen until the next mount.
        ("whiteouts beside", "unlink of a copied-up file", "unlink", errno.EIO),
        ("whiteouts beside", "unlink of a lower file", "open", errno.EIO),
        ("whiteouts beside", "create over a whiteout", "unlink", errno.EDQUOT),
    ],
)  # fmt: skip
def test_operation_is_done_or_not_done(configuration: str, operation: str, call: str, number: int, tmp_path: Path) -> None:
    options, operations = CONFIGURATIONS[configuration]
    found = operations[operation]
    reference = refer(tmp_path / "reference", options, found)
    cells = outcomes(tmp_path, reference, call, number, lambda top, fault: try_fault(top, options, found, fault, reference))
    assert [outcome.problems for outcome in cells] == [[]] * len(cells)


@pytest.mark.parametrize("call", ["open_by_handle_at", "fstat", "open"])
@pytest.mark.expects_log_error("snapshot 1 is taken, but could not be finished")
def test_snapshot_loses_no_name_of_an_indexed_file(call: str, tmp_path: Path) -> None:
    # A handle that could not be opened for lack of descriptors was taken for one of a file that is gone.
    reference = snapshots.refer(tmp_path / "reference")
    cells = outcomes(tmp_path, reference, call, errno.EMFILE if call != "fstat" else errno.ENOMEM, snapshots.try_fault)
    wrong = [problem for outcome in cells for problem in outcome.problems if "nlink=4" not in problem]
    assert wrong == []
