"""Long random sequences of operations, done on the union and on a plain directory of the same content: both must answer alike.

The plain filesystem is the oracle here, for every backend, the kernel's included.  The names are few, so that operations meet.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .layers import OPAQUE, WHITEOUT, Symlink, Tree
from .syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from .tree import Snapshot, differences
from .union import Union

OPERATIONS = 400

MIDDLE: Tree = {"a/a": b"1", "a/b/c": b"2", "b": b"3", "c/a/a": b"4", "c/b": Symlink("a"), "d": WHITEOUT}
BOTTOM: Tree = {"a/c": b"5", "a/b/a": b"6", "b/a": b"7", "c/c/b": b"8", "d/a": b"9"}
UPPER: Tree = {"a/b": OPAQUE, "a/b/b": b"0", "c/a": WHITEOUT, "d/d": b"10"}

Operation = Callable[[Path], object]


def random_path(dice: random.Random) -> str:
    return "/".join(dice.choice("abcd") for _ in range(dice.choice([1, 2, 2, 3])))


def random_operation(dice: random.Random) -> tuple[str, Operation]:
    """An operation on a tree whose top it is given, and its description."""
    one, other = random_path(dice), random_path(dice)
    data, mode = b"%d" % dice.randrange(10 ** dice.randrange(9)), dice.choice([0o600, 0o644, 0o750, 0o1777])
    operations: list[tuple[str, Operation]] = [
        ("write", lambda top: (top / one).write_bytes(data)),
        ("append", lambda top: append(top / one, data)),
        ("read", lambda top: (top / one).read_bytes()),
        ("truncate", lambda top: os.truncate(top / one, len(data))),
        ("unlink", lambda top: (top / one).unlink()),
        ("rmdir", lambda top: (top / one).rmdir()),
        ("mkdir", lambda top: (top / one).mkdir()),
        ("makedirs", lambda top: (top / one).mkdir(parents=True)),
        ("symlink", lambda top: (top / one).symlink_to(Path(other).name)),
        ("link", lambda top: os.link(top / one, top / other, follow_symlinks=False)),
        ("rename", lambda top: os.rename(top / one, top / other)),
        ("rename", lambda top: os.rename(top / one, top / other)),
        ("noreplace", lambda top: renameat2(top / one, top / other, RENAME_NOREPLACE)),
        ("exchange", lambda top: renameat2(top / one, top / other, RENAME_EXCHANGE)),
        ("chmod", lambda top: (top / one).chmod(mode)),
        ("chown", lambda top: os.chown(top / one, len(data), 7, follow_symlinks=False)),
        ("setxattr", lambda top: os.setxattr(top / one, "user.x", data)),
        ("list", lambda top: sorted(os.listdir(top / one))),
        ("stat", lambda top: os.lstat(top / one).st_mode),
    ]
    name, operation = dice.choice(operations)
    return f"{name} {one} {other}", operation


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def outcome(operation: Operation, top: Path) -> object:
    """What the operation returned, or the name of its error."""
    try:
        return operation(top)
    except OSError as error:
        return type(error), error.errno


@pytest.mark.layers([MIDDLE, BOTTOM], upper=UPPER)
@pytest.mark.parametrize("seed", range(8))
def test_answer_as_on_a_plain_directory(union: Union, tmp_path: Path, seed: int) -> None:
    plain = tmp_path / "plain"
    subprocess.run(["cp", "-a", union.merged, plain], check=True)
    dice = random.Random(seed)  # noqa: S311 - a sequence to repeat, not a secret
    history = []
    for _ in range(OPERATIONS):
        description, operation = random_operation(dice)
        answer = outcome(operation, union.merged)
        history.append(f"{description}: {answer}")
        # Directories with a lower part cannot be renamed; the plain filesystem knows no such thing.
        if answer != (OSError, errno.EXDEV):
            assert answer == outcome(operation, plain), "\n".join(history[-20:])
    if os.geteuid() != 0:
        # Others than root cannot look into all that they have closed.
        subprocess.run(["chmod", "-R", "u+rwX", plain, union.merged], check=True)
    # mtimes of what was changed differ by when that was done.
    found = differences(Snapshot.of(plain), Snapshot.of(union.merged))
    assert [line for line in found if ": mtime_ns " not in line] == []
