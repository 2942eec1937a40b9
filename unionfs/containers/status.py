"""What a container does now: a file in its directory, which its monitor replaces as a whole."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unionfs.mounter.field_types import check_types
from unionfs.store.errors import CorruptError

NAME = "status.json"
State = Literal["created", "running", "exited"]


@dataclass(frozen=True)
class Status:
    """``pid`` and ``pid_started`` (see `unionfs.mounter.processes`) are those of the container's first process; ``started`` and
    ``finished`` are seconds since the epoch; ``error`` tells why it ended or could not begin, where there is more to tell than a
    status."""

    state: State = "created"
    pid: int | None = None
    pid_started: int | None = None
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None
    error: str | None = None


def read_status(directory: Path) -> Status:
    """The status of the container with that directory; of one that has not begun, ``created``.

    Raises:
        CorruptError: the file is damaged.
    """
    try:
        text = (directory / NAME).read_bytes()
    except FileNotFoundError:
        return Status()
    try:
        status = Status(**json.loads(text))
        check_types(status)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CorruptError(
            str(directory / NAME), f"no status of a container: {error}", "remove the container (unionfs rm -f)"
        ) from None
    return status


def write_status(directory: Path, status: Status) -> None:
    """Replace it.

    Raises:
        OSError: it cannot be written.
    """
    new = directory / f".{NAME}.new"
    with new.open("w") as file:
        json.dump(dataclasses.asdict(status), file)
        file.flush()
        # A rename alone may leave an empty file after a power failure.
        os.fsync(file.fileno())
    new.rename(directory / NAME)
