"""Names: random operations on a small tree of a few names, and on another tree when that has been turned over enough.

It is the player of the differential tests, which has most of the operations, and a few more.
"""

from __future__ import annotations

import fcntl
import os
import random
import stat
from dataclasses import replace
from pathlib import Path

from tests.behaviour.tree import Record, Snapshot
from tests.differential.player import MOST_HELD, NAMES, Operation, Player
from tests.load.work import LONG_AGO_NS, PRESENT, Status, shared, weighted
from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE

STAY = 200
"""How many operations are done in one tree."""

_MODES = (0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o000)
_XATTRS = ("user.one", "user.two", "trusted.three")
# No device 0:0, which is a whiteout, and no block device that there is.
_SPECIAL = (
    (stat.S_IFREG, 0),
    (stat.S_IFIFO, 0),
    (stat.S_IFSOCK, 0),
    (stat.S_IFCHR, os.makedev(1, 3)),
    (stat.S_IFBLK, os.makedev(240, 7)),
)
_MOST_LOCKED = 3


class UnreadableError(Exception):
    """Something of a tree that is there cannot be looked at."""


class NamesWork(Player):
    """Works in ``trees/tree-0``, then in ``trees/tree-1`` and so on, and begins again behind the last one."""

    def __init__(self, top: Path) -> None:
        self._trees = top / "trees"
        self._count = len(os.listdir(self._trees))
        self._number = 0
        self._done = 0
        self._locked: list[int] = []
        super().__init__(self._tree())

    def draw(self, dice: random.Random) -> list[Operation]:
        if self._done >= STAY:
            return [Operation("whole", ()), Operation("move_on", ())]
        operation = self._draw_one(dice)
        paths = tuple(each for each in operation.arguments if isinstance(each, str) and each[0] in NAMES)
        looks = [Operation("look", (path,)) for path in dict.fromkeys(paths)] if dice.random() < 0.7 else []
        return [operation, *looks, *([Operation("whole", ())] if dice.random() < 0.02 else [])]

    def end(self) -> None:
        self.let_go()
        while self._locked:
            os.close(self._locked.pop())

    def _tree(self) -> Path:
        return self._trees / f"tree-{self._number}"

    def _draw_one(self, dice: random.Random) -> Operation:
        one, other = _path(dice), _path(dice)
        held, other_held = dice.randrange(MOST_HELD), dice.randrange(MOST_HELD)
        data, size = dice.randbytes(dice.randint(1, 20)), dice.choice((0, 2, 9000))
        kind, device = dice.choice(_SPECIAL)
        offset, mode, xattr = dice.choice((0, 3, 5000)), dice.choice(_MODES), dice.choice(_XATTRS)
        choices: list[tuple[int, Operation]] = [
            (12, Operation("rename", (one, other, dice.choice((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))))),
            (6, Operation("unlink", (one,))),
            (5, Operation("rmdir", (one,))),
            (2, Operation("remove_tree", (one,))),
            (6, Operation("create", (one, mode))),
            (7, Operation("mkdir", (one, mode | 0o700))),
            (8, Operation("write", (one, data, offset, dice.choice((0, os.O_TRUNC, os.O_APPEND, os.O_CREAT))))),
            (6, Operation("read", (one,))),
            (4, Operation("truncate", (one, size))),
            (6, Operation("hold", (one, dice.choice((0, 0, os.O_CREAT, os.O_TRUNC, os.O_APPEND))))),
            (3, Operation("hold_unnamed", (one,))),
            (3, Operation("stat_held", (held,))),
            (4, Operation("read_held", (held,))),
            (4, Operation("write_held", (held, data, offset))),
            (2, Operation("truncate_held", (held, size))),
            (2, Operation("chmod_held", (held, mode))),
            (4, Operation("link_held", (held, one))),
            (2, Operation("copy_held", (held, other_held, dice.choice((20_000, 30_000))))),
            (3, Operation("chmod", (one, mode))),
            (3, Operation("chown", (one, dice.choice((0, 1234)), dice.choice((0, 4321))))),
            (3, Operation("utime", (one, dice.randrange(1000)))),
            (2, Operation("mknod", (one, kind | 0o640, device))),
            (4, Operation("symlink", (one, dice.choice(NAMES)))),
            (5, Operation("link", (one, other))),
            (4, Operation("listdir", (one,))),
            (3, Operation("setxattr", (one, xattr, data, dice.choice((0, os.XATTR_CREATE, os.XATTR_REPLACE))))),
            (2, Operation("removexattr", (one, xattr))),
            (2, Operation("xattrs", (one,))),
            (2, Operation("readlink", (one,))),
            (3, Operation("stat_through", (one,))),
            (2, Operation("lock", (one, dice.choice((fcntl.LOCK_EX, fcntl.LOCK_SH))))),
            (1, Operation("unlock", ())),
            (2, Operation("sync", (one,))),
        ]
        return weighted(dice, choices)

    # -- operations that the player has not -----------------------------------------------------------------------

    def move_on(self) -> None:
        """Leave this tree, and go to the next one."""
        self.end()
        self._number = (self._number + 1) % self._count
        self._done = 0
        self._top = os.fsencode(self._tree())

    def look(self, path: str) -> Status:
        """What there is at a path that was just used."""
        self._done += 1
        return shared(os.lstat(self._path(path)))

    def stat_through(self, path: str) -> Status:
        return shared(os.stat(self._path(path)))

    def whole(self) -> dict[bytes, Record]:
        """The whole tree."""
        self._done += 1
        try:
            return comparable(Snapshot.of(Path(os.fsdecode(self._top)))).records
        except OSError as error:
            # All of it is there: which of it cannot be looked at, and how, is worth to be told.
            raise UnreadableError(f"{error.strerror}: {error.filename!r}") from error

    def xattrs(self, path: str) -> list[tuple[str, bytes]]:
        names = sorted(os.listxattr(self._path(path), follow_symlinks=False))
        return [(name, os.getxattr(self._path(path), name, follow_symlinks=False)) for name in names]

    def readlink(self, path: str) -> bytes:
        return os.readlink(self._path(path))

    def hold_unnamed(self, path: str) -> None:
        """O_TMPFILE in a directory; `link_held` may give it a name."""
        self._held.append(os.open(self._path(path), os.O_TMPFILE | os.O_RDWR, 0o640))
        if len(self._held) > MOST_HELD:
            os.close(self._held.pop(0))

    def truncate(self, path: str, size: int) -> None:
        """Not to the size that it has, which may move the mtime or not (truncate(3p))."""
        if os.stat(self._path(path)).st_size != size:
            super().truncate(path, size)

    def lock(self, path: str, kind: int) -> None:
        """flock(2) and go on holding it, unless another one of ours is in the way; open for writing, which copies up first."""
        fd = os.open(self._path(path), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        self._locked.append(fd)
        if len(self._locked) > _MOST_LOCKED:
            self.unlock()

    def unlock(self) -> None:
        if self._locked:
            os.close(self._locked.pop(0))

    def sync(self, path: str) -> None:
        """fsync(2) of a file or a directory."""
        fd = os.open(self._path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def comparable(tree: Snapshot) -> Snapshot:
    """A tree without the times that two directories cannot share."""
    return Snapshot(
        {
            path: replace(record, mtime_ns=record.mtime_ns if record.mtime_ns < LONG_AGO_NS else PRESENT)
            for path, record in tree.records.items()
        }
    )


def _path(dice: random.Random) -> str:
    return "/".join(dice.choice(NAMES) for _ in range(dice.choice((1, 2, 2, 3))))
