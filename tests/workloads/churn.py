"""One of the processes that churn a directory: ``python -m tests.workloads.churn DIRECTORY SEED OPERATIONS SECONDS``.

It works in two places.  In ``DIRECTORY/own-SEED`` nobody else does, so it knows what every file holds: any error there, and any
other content, is a failure.  In ``DIRECTORY/shared`` all processes use the same few names, so another one may have been
quicker: there each operation has the errors that a plain directory gives in that case too.

It ends after OPERATIONS operations, or after SECONDS seconds if that is not 0.  Prints how many it has done; anything on
standard error is a failure, and makes the exit status 1.
"""

from __future__ import annotations

import errno
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = [f"name{n}" for n in range(24)]
LOWER_FILES = 12
"""How many files a lower holds for the own directory of each process, named and filled as `lower_content` says."""

RACES = {
    "create": {errno.EEXIST, errno.EISDIR},
    "read": {errno.ENOENT, errno.EISDIR},
    "append": {errno.ENOENT, errno.EISDIR},
    "rename": {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST},
    "unlink": {errno.ENOENT, errno.EISDIR},
    "link": {errno.ENOENT, errno.EEXIST, errno.EPERM},
    "mkdir": {errno.EEXIST},
    "rmdir": {errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY},
    "stat": {errno.ENOENT},
    "list": set[int](),
}
"""What each operation may fail with where others use the same names; EPERM: a hard link to a directory."""


def lower_content(seed: int, number: int) -> bytes:
    return f"lower {seed} {number}\n".encode() * 50


class OwnDirectory:
    """A directory that only this process uses, and what must be in it."""

    def __init__(self, path: Path, seed: int, rng: random.Random) -> None:
        self.path, self.rng = path, rng
        self.model = {f"lower{n}": lower_content(seed, n) for n in range(LOWER_FILES)}
        self.operations: list[Callable[[], None]] = [
            self.create, self.create, self.read, self.read, self.append, self.rename, self.replace, self.unlink, self.list,
        ]  # fmt: skip
        self.created = 0

    def step(self) -> None:
        (self.rng.choice(self.operations) if len(self.model) > 1 else self.create)()

    def any_name(self) -> str:
        return self.rng.choice(list(self.model))

    def create(self) -> None:
        self.created += 1
        # Some names come again, so that a file is made where a whiteout lies.
        name = f"lower{self.created % LOWER_FILES}" if self.created % 3 == 0 else f"made{self.created}"
        self.model[name] = self.rng.randbytes(self.rng.choice((0, 10, 5000, 20000)))
        (self.path / name).write_bytes(self.model[name])

    def read(self) -> None:
        name = self.any_name()
        found = (self.path / name).read_bytes()
        assert found == self.model[name], f"{name}: {len(found)} bytes that are not the {len(self.model[name])} written"

    def append(self) -> None:
        name = self.any_name()
        more = self.rng.randbytes(100)
        with (self.path / name).open("ab") as file:
            file.write(more)
        self.model[name] += more
        assert (self.path / name).stat().st_size == len(self.model[name]), f"{name}: size after append"

    def rename(self) -> None:
        name = self.any_name()
        self.created += 1
        new = f"renamed{self.created}"
        (self.path / name).rename(self.path / new)
        self.model[new] = self.model.pop(name)
        assert not (self.path / name).exists(), f"{name}: still there after its rename"

    def replace(self) -> None:
        old, new = self.any_name(), self.any_name()
        (self.path / old).replace(self.path / new)
        self.model[new] = self.model.pop(old)

    def unlink(self) -> None:
        name = self.any_name()
        (self.path / name).unlink()
        del self.model[name]

    def list(self) -> None:
        found = sorted(os.listdir(self.path))
        assert found == sorted(self.model), f"listing: {set(found) ^ set(self.model)}"


class SharedDirectory:
    """A directory that all processes use at once."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path, self.rng = path, rng

    def step(self) -> None:
        operation = self.rng.choice(list(RACES))
        try:
            getattr(self, operation)(self.path / self.rng.choice(NAMES), self.path / self.rng.choice(NAMES))
        except OSError as error:
            if error.errno not in RACES[operation]:
                raise

    def create(self, path: Path, _: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))

    def read(self, path: Path, _: Path) -> None:
        path.read_bytes()

    def append(self, path: Path, _: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, b"x" * 100)
            os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, path: Path, other: Path) -> None:
        path.rename(other)

    def unlink(self, path: Path, _: Path) -> None:
        path.unlink()

    def link(self, path: Path, other: Path) -> None:
        other.hardlink_to(path)

    def mkdir(self, path: Path, _: Path) -> None:
        path.mkdir()

    def rmdir(self, path: Path, _: Path) -> None:
        path.rmdir()

    def stat(self, path: Path, _: Path) -> None:
        path.lstat()

    def list(self, _path: Path, _other: Path) -> None:
        found = os.listdir(self.path)
        assert len(found) == len(set(found)), f"names listed twice: {sorted(found)}"
        assert set(found) <= set(NAMES), f"names nobody made: {set(found) - set(NAMES)}"


def main(directory: Path, seed: int, operations: int, seconds: float) -> None:
    rng = random.Random(seed)  # noqa: S311  # reproducible on purpose
    own, shared = OwnDirectory(directory / f"own-{seed}", seed, rng), SharedDirectory(directory / "shared", rng)
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end if seconds else done < operations:
        own.step()
        shared.step()
        done += 2
    own.list()
    for name in own.model:
        assert (own.path / name).read_bytes() == own.model[name], f"{name}: not what was written"
    print(done)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
