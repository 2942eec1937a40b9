"""One of many processes that work in one union.

Each has a directory of its own and two things that all share: a lower file that everybody reads, and a directory in which
everybody makes, renames and removes names.
"""

from __future__ import annotations

import os
from pathlib import Path

_SHARED = b"shared by all\n" * 100


def work(top: Path, number: int, rounds: int) -> None:
    """Mixed operations; AssertionError or OSError if something is wrong.  Leaves ``own-N/kept`` and ``common/N``."""
    own, common = top / f"own-{number}", top / "common"
    own.mkdir()
    for turn in range(rounds):
        data = b"%d of %d\n" % (turn, number) * 50
        file = own / f"file{turn}"
        file.write_bytes(data)
        os.link(file, own / "link")
        os.replace(file, own / "kept")
        assert (own / "link").read_bytes() == (own / "kept").read_bytes() == data
        os.unlink(own / "link")
        assert (top / "shared").read_bytes() == _SHARED
        with (top / f"lower-{number}").open("ab") as lower:
            lower.write(data)
        os.symlink(f"{turn}", common / f"{number}-{turn}")
        os.rename(common / f"{number}-{turn}", common / f"{number}")
        assert os.readlink(common / f"{number}") == f"{turn}"
        assert f"{number}" in os.listdir(common)
        os.setxattr(own / "kept", "user.turn", b"%d" % turn)
    os.unlink(top / f"gone-{number}")


def fill(lower: Path, processes: int) -> None:
    """The lower layer that the workers expect."""
    (lower / "common").mkdir()
    (lower / "shared").write_bytes(_SHARED)
    for number in range(processes):
        (lower / f"lower-{number}").write_bytes(b"lower\n")
        (lower / f"gone-{number}").write_bytes(b"")


def verify(top: Path, processes: int, rounds: int) -> None:
    """What all of them must have left; AssertionError if it is not so."""
    assert sorted(os.listdir(top / "common")) == sorted(map(str, range(processes)))
    for number in range(processes):
        turns = [b"%d of %d\n" % (turn, number) * 50 for turn in range(rounds)]
        assert os.listdir(top / f"own-{number}") == ["kept"]
        assert (top / f"own-{number}/kept").read_bytes() == turns[-1]
        assert os.getxattr(top / f"own-{number}/kept", "user.turn") == b"%d" % (rounds - 1)
        assert (top / f"lower-{number}").read_bytes() == b"lower\n" + b"".join(turns)
        assert not (top / f"gone-{number}").exists()
