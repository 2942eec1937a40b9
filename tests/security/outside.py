"""What lies beside the layers and is nobody's business: read and compared, so that a test sees the slightest change."""

from __future__ import annotations

import os
from pathlib import Path

from tests.behaviour.tree import Snapshot, differences

SECRET = b"secret of somebody else"


class Outside:
    """A directory with a file and a directory of the same names as in the layers of a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "d").mkdir(parents=True)
        for name in ("f", "d/f", "d/g"):
            (path / name).write_bytes(SECRET)
            (path / name).chmod(0o600)
        # The names that rename and link use too; and a time that nothing sets by chance.
        for place in (path / "f", path / "d", path / "d/f"):
            os.setxattr(place, "user.mine", b"1")
            os.utime(place, (1, 1))
        self._before = Snapshot.of(path, exact=True)

    @property
    def changes(self) -> list[str]:
        """What is no longer as it was."""
        return differences(self._before, Snapshot.of(self.path, exact=True))
