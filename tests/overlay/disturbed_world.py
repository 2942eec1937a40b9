"""A union and a plain directory in which the same is done, while the union's layers change and its workers are replaced.

No kernel takes part.  What it would remember, names and opens in passthrough, is kept here, so a failure comes again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.overlay.client import ROOT, Client, build
from unionfs.filesystem import ROOT_ID, SET_MODE, Changes
from unionfs.fuse.backing import BackingFiles
from unionfs.fuse.protocol import IOC_BACKING_CLOSE, IOC_BACKING_OPEN
from unionfs.fuse.wire import BACKING_ID, BACKING_MAP
from unionfs.journal.journal import Journal
from unionfs.journal.recovered import Intent, read_journal
from unionfs.journal.storage import JournalFile, new_journal
from unionfs.linux.rename import RENAME_EXCHANGE, renameat2
from unionfs.overlay import Layer, Options, Stack, Union, open_lower
from unionfs.overlay.detached_layers import DetachedLayers
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshots

_ioctl = fcntl.ioctl
_AT_FDCWD = -100
_NAMES = "abcd"
_MOST_HELD = 6
_MOST_SNAPSHOTS = 3


class Held(NamedTuple):
    """A file that is open in the union (``backing``: by which id, 0: through the cache) and in the plain directory."""

    node: int
    backing: int
    plain: int
    is_writable: bool


class Backings:
    """What the kernel has registered: descriptors by backing id."""

    def __init__(self) -> None:
        self.files: dict[int, int] = {}
        self._last = 0

    def ioctl(self, fd: int, request: int, argument: Any) -> Any:
        """What stands for ioctl(2)."""
        if request == IOC_BACKING_OPEN:
            self._last += 1
            self.files[self._last] = _opened_again(BACKING_MAP.unpack(argument)[0])
            return self._last
        if request != IOC_BACKING_CLOSE:
            return _ioctl(fd, request, argument)
        (number,) = BACKING_ID.unpack(argument)
        if number not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return 0  # who has it open keeps it

    def close(self) -> None:
        for fd in self.files.values():
            os.close(fd)


class World:
    """A union, and beside it a plain directory in which the same is done."""

    def __init__(self, top: Path, options: Options, dice: random.Random, backings: Backings) -> None:
        self._top, self._options, self._dice, self._backings = top, options, dice, backings
        self.plain = top / "plain"
        self._upper, self._work = build(top / "upper", {}), build(top / "work", {})
        self._snapshots = Snapshots(self._upper, PrivateXattrs(False))
        self._lowers = _lowers(top)
        self._added: list[Path] = []
        self._file = JournalFile(new_journal())
        self.nlookup: Counter[int] = Counter()
        self._held: list[Held] = []
        self._names: dict[tuple[int, bytes], int] = {}
        """The names that the kernel remembers."""
        self._start(self._stack(self._lowers))
        self.union.use_journal(self._journal)
        self._files = BackingFiles(-1, self.union, self._journal)
        self._copy()
        self._after_request()

    def _stack(self, lowers: list[Path], **rest: Any) -> Stack:
        return Stack(tuple(lowers), self._upper, self._work, **rest)

    def _start(self, stack: Stack) -> None:
        self.union = Union(stack, self._options)
        self._journal = Journal(self._file)
        self.client = Client(self.union)

    def _copy(self) -> None:
        """Make the plain directory what the union is; file by file, hard links among them."""
        made: dict[int, Path] = {}
        waiting = [(self.plain, ROOT_ID)]
        while waiting:
            target, node = waiting.pop()
            target.mkdir()
            for name, child in self._list(node).items():
                attr = self.client.call(self.union.getattr, child)
                place = target / os.fsdecode(name)
                if stat.S_ISDIR(attr.mode):
                    waiting.append((place, child))
                elif attr.ino in made:
                    os.link(made[attr.ino], place)
                else:
                    place.write_bytes(bytes(self.client.call(self.union.read, child, 0, 1000)))
                    made[attr.ino] = place

    # -- looking ----------------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> int:
        """A node that the kernel knows from now on."""
        entry = self.client.call(self.union.lookup, parent, name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.fsdecode(name))
        self.nlookup[entry.node] += 1
        remembered = self._names.setdefault((parent, name), entry.node)
        assert remembered == entry.node, f"{name!r} leads to node {entry.node}, the kernel knows it as {remembered}"
        return entry.node

    def node(self, path: str) -> int:
        node = ROOT_ID
        for name in path.split("/"):
            node = self.lookup(node, os.fsencode(name))
        return node

    def place(self, path: str) -> tuple[int, bytes]:
        parent, _, name = path.rpartition("/")
        return self.node(parent) if parent else ROOT_ID, os.fsencode(name)

    def _list(self, node: int) -> dict[bytes, int]:
        names = [row.name for row in self.client.call(lambda: list(self.union.readdir(node, 0)))]
        return {name: self.lookup(node, name) for name in names if name not in (b".", b"..")}

    def seen(self) -> dict[str, Any]:
        """What there is, as the plain directory is to have it, and which names are of one file."""
        found: dict[str, Any] = {}
        numbers: dict[str, int] = {}
        waiting = [("", ROOT_ID)]
        while waiting:
            path, node = waiting.pop()
            for name, child in self._list(node).items():
                below = f"{path}/{os.fsdecode(name)}"
                attr = self.client.call(self.union.getattr, child)
                if stat.S_ISDIR(attr.mode):
                    found[below] = attr.mode
                    waiting.append((below, child))
                    continue
                found[below] = attr.mode, attr.nlink, attr.size, self._contents(child, attr.mode), self._xattrs(child)
                numbers[below] = attr.ino
        return found | _groups(numbers)

    def _contents(self, node: int, mode: int) -> bytes:
        if stat.S_ISLNK(mode):
            return self.client.call(self.union.readlink, node)
        return bytes(self.client.call(self.union.read, node, 0, 1000)) if stat.S_ISREG(mode) else b""

    def _xattrs(self, node: int) -> dict[bytes, bytes]:
        names = self.client.call(self.union.listxattr, node, ROOT)
        return {name: self.client.call(self.union.getxattr, node, name) for name in names}

    def expected(self) -> dict[str, Any]:
        """The same of the plain directory."""
        found: dict[str, Any] = {}
        numbers: dict[str, int] = {}
        for path in self.plain.rglob("*"):
            st, below = path.lstat(), f"/{path.relative_to(self.plain)}"
            if stat.S_ISDIR(st.st_mode):
                found[below] = st.st_mode
                continue
            found[below] = st.st_mode, st.st_nlink, st.st_size, _contents(path, st.st_mode), _xattrs(path)
            numbers[below] = st.st_ino
        return found | _groups(numbers)

    def check(self) -> None:
        """Everything is the same in both."""
        assert self.seen() == self.expected()
        for held in self._held:
            st = os.fstat(held.plain)
            attr = self.client.call(self.union.getattr, held.node)
            assert (attr.mode, attr.nlink, attr.size) == (st.st_mode, st.st_nlink, st.st_size), held
            if held.is_writable or held.backing == 0:
                assert self._read(held) == os.pread(held.plain, 1000, 0), held

    def inos(self) -> dict[int, int]:
        """The inode number of each node that the kernel knows."""
        return {node: self.client.call(self.union.getattr, node).ino for node in self.nlookup}

    def _read(self, held: Held) -> bytes:
        if held.backing:
            return os.pread(self._backings.files[held.backing], 1000, 0)
        return bytes(self.client.call(self.union.read, held.node, 0, 1000))

    # -- changing ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One change, which may fail, in both for the same reason."""
        dice, call, union, plain = self._dice, self.client.call, self.union, self.plain
        one, other = self._two_paths()
        data = b"%d" % dice.randrange(1000)
        changes: tuple[Callable[[], object], ...] = (
            lambda: _both(lambda: self._create(one, data), lambda: _create(plain / one, data)),
            lambda: _both(
                lambda: call(union.symlink, *self.place(one), data, ROOT), lambda: (plain / one).symlink_to(data.decode())
            ),
            lambda: _both(lambda: self._make_fifo(one), lambda: os.mkfifo(plain / one, 0o644)),
            lambda: self._set_xattr(one, data),
            lambda: _both(lambda: call(union.mkdir, *self.place(one), 0o755, ROOT), lambda: (plain / one).mkdir()),
            lambda: _both(lambda: call(union.unlink, *self.place(one)), lambda: os.unlink(plain / one)),
            lambda: _both(lambda: call(union.rmdir, *self.place(one)), lambda: (plain / one).rmdir()),
            lambda: self._rename(one, other, 0),
            lambda: self._rename(one, other, 0),
            lambda: self._rename(one, other, RENAME_EXCHANGE),
            lambda: _both(
                lambda: call(union.link, self.node(one), *self.place(other)), lambda: os.link(plain / one, plain / other)
            ),
            lambda: _both(
                lambda: call(union.link, self.node(one), *self.place(other)), lambda: os.link(plain / one, plain / other)
            ),
            lambda: self._chmod(one, 0o700),
            lambda: self._hold(one, is_writable=True),
            lambda: self._hold(one, is_writable=True),
            lambda: self._hold(one, is_writable=False),
            lambda: self._write_held(data),
            lambda: self._let_go(),
            lambda: self.forget(),
        )
        dice.choice(changes)()
        self._after_request()

    def _two_paths(self) -> tuple[str, str]:
        dice = self._dice
        one, other = ("/".join(dice.choice(_NAMES) for _ in range(dice.choice((1, 2, 2, 3)))) for _ in range(2))
        if f"{other}/".startswith(f"{one}/") or f"{one}/".startswith(f"{other}/"):
            return "a/b", "c"  # the kernel itself refuses to move a directory into itself
        return one, other

    def _after_request(self) -> None:
        # What the kernel remembers of names it asks for anew when it has changed some itself.
        self._names.clear()
        self.union._tree.notices.clear()
        self._files.note_released(readers=self._dice.random() < 0.5)  # these only in a pause
        self._journal.flush()

    def _create(self, path: str, data: bytes) -> None:
        entry, _ = self.client.call(self.union.create, *self.place(path), os.O_WRONLY | os.O_EXCL, 0o644, ROOT)
        self.nlookup[entry.node] += 1
        self.client.call(self.union.write, entry.node, 0, data)

    def _rename(self, old: str, new: str, flags: int) -> None:
        _both(
            lambda: self.client.call(self.union.rename, *self.place(old), *self.place(new), flags),
            lambda: renameat2(_AT_FDCWD, os.fsencode(self.plain / old), _AT_FDCWD, os.fsencode(self.plain / new), flags),
        )

    def _chmod(self, path: str, mode: int) -> None:
        if not (self.plain / path).is_symlink():
            change = Changes(SET_MODE, mode=mode)
            _both(
                lambda: self.client.call(self.union.setattr, self.node(path), change, ROOT),
                lambda: os.chmod(self.plain / path, mode),
            )

    def _make_fifo(self, path: str) -> None:
        self.client.call(self.union.mknod, *self.place(path), stat.S_IFIFO | 0o644, 0, ROOT)

    def _set_xattr(self, path: str, value: bytes) -> None:
        if (self.plain / path).is_file() and not (self.plain / path).is_symlink():
            self.client.call(self.union.setxattr, self.node(path), b"user.one", value, 0)
            os.setxattr(self.plain / path, "user.one", value)

    # -- what is open -----------------------------------------------------------------------------------------------------

    def _hold(self, path: str, *, is_writable: bool) -> None:
        flags = os.O_RDWR if is_writable else os.O_RDONLY
        if not (self.plain / path).is_file() or not _both(lambda: self.node(path), lambda: (self.plain / path).lstat()):
            return
        try:
            node, backing = self._open(path, flags)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            node, backing = self._open(path, flags)  # the kernel looks the name up once more, and opens that node
        self._held.append(Held(node, backing, os.open(self.plain / path, flags), is_writable))
        if len(self._held) > _MOST_HELD:
            self._let_go()

    def _open(self, path: str, flags: int) -> tuple[int, int]:
        """Node and backing id."""
        node = self.node(path)
        self._names.clear()
        opened = self.client.call(self.union.open, node, flags, ROOT)
        return node, self._files.acquire(node, opened, flags != os.O_RDONLY)[1]

    def _write_held(self, data: bytes) -> None:
        written = [held for held in self._held if held.is_writable]
        if written:
            held = self._dice.choice(written)
            os.pwrite(self._backings.files[held.backing], data, 0)
            os.pwrite(held.plain, data, 0)

    def _let_go(self) -> None:
        if self._held:
            held = self._held.pop(0)
            self._files.release(held.node)
            os.close(held.plain)

    def forget(self, share: float = 0.5) -> None:
        """The kernel forgets so much of what it does not need."""
        kept = {held.node for held in self._held}
        for node in [node for node in self.nlookup if node not in kept and self._dice.random() < share]:
            self._files.forget(node)
            self.union.forget(node, self.nlookup.pop(node))
        self._after_request()

    # -- disturbing -------------------------------------------------------------------------------------------------------

    def disturb(self) -> None:
        """Change the layers or let another worker take over, or one in the middle of the other."""
        dice = self._dice
        change = dice.choice((lambda: None, self._take_snapshot, self._merge, self._add_layer, self._remove_layer))
        before = self.inos()
        self._after_request()
        self.union.begin_change()
        change()
        if dice.random() < 0.5:
            self._take_over()
        else:
            self._files.drop_idle()
            self.union.end_change()
        assert self.inos() == before, change

    def _take_snapshot(self) -> None:
        self.union.prepare_snapshot(None).take()

    def _merge(self) -> None:
        numbers = [snapshot.number for snapshot in reversed(self._snapshots.all())]
        if len(numbers) > _MOST_SNAPSHOTS and self._adjoin(numbers[-2:]):
            merge = self.union.prepare_merge(numbers[-2:])
            merge.prepare()
            merge.take()

    def _adjoin(self, numbers: list[int]) -> bool:
        paths = [layer.path for layer in self.union.lowers]
        first, second = self._snapshots.layers(numbers)
        return paths.index(second) - paths.index(first) == 1

    def _add_layer(self) -> None:
        number = len(self._added) + 1
        layer = build(self._top / f"added{number}", {f"added{number}/f": b"added"})
        self._added.append(layer)
        lowers = self.union.lowers
        added = open_lower(0, layer)
        if self._change([added, *lowers] if self._dice.random() < 0.5 else [*lowers, added]):
            build(self.plain, {f"added{number}/f": b"added"})
        else:
            added.close()

    def _change(self, lowers: list[Layer]) -> bool:
        """Let these be the lower layers, if nothing is in the way."""
        change = self.union.change_layers(lowers)
        if change.in_the_way:
            change.discard()
            return False
        change.apply()
        return True

    def _remove_layer(self) -> None:
        present = {layer.path: layer for layer in self.union.lowers}
        added = [path for path in self._added if path in present]
        if not added:
            return
        if self._change([layer for path, layer in present.items() if path != added[-1]]):
            shutil.rmtree(self.plain / added[-1].name)

    def _take_over(self) -> None:
        """Let the worker be gone, and another one go on."""
        lowers = [layer.path for layer in self.union.lowers]
        recovered = read_journal(self._file, no_intent)
        self._die()
        self._snapshots.recover(self._work, goes_on=True)
        chain = self._snapshots.chain()
        self._start(self._stack(lowers, former_uppers=frozenset(chain), goes_on=True))
        lost = self.union.recover(recovered).lost
        self.union.use_journal(self._journal)
        self.union.note_recovered(recovered)
        self._files = BackingFiles(-1, self.union, self._journal)
        self._files.recover(recovered)
        self._after_request()
        self.union.end_change()
        assert lost == 0

    def _die(self) -> None:
        """What a killed worker leaves are the open files that the journal names."""
        for inode in self.union._nodes:
            inode.orphan_fd = -1
        self.union._detached = DetachedLayers()
        self.union.close()

    def close(self) -> None:
        while self._held:
            self._let_go()
        self.union.close()


def _opened_again(fd: int) -> int:
    """As the kernel opens it for whoever opens the node; only what is in a lower layer may not be written."""
    path = f"/proc/self/fd/{fd}"
    try:
        return os.open(path, os.O_RDWR)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    return os.open(path, os.O_RDONLY)


def no_intent(_form: int, _request: memoryview) -> Intent:
    """For reading a journal that has none, since no request was read."""
    raise AssertionError("a worker that died between two requests intended something")


def _lowers(top: Path) -> list[Path]:
    lowers = [
        build(top / "lower0", {"a/b": b"1", "b/a/c": b"2", "c": b"3"}),
        build(top / "lower1", {"a/a": b"4", "a/c/d": b"5", "b/a/a": b"6", "d/d": b"8", "d/a/b": b"9"}),
    ]
    for layer, old, new in ((0, "a/b", "b/d"), (1, "d/d", "d/c")):
        os.link(lowers[layer] / old, lowers[layer] / new)
    return lowers


def _contents(path: Path, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.readlink(os.fsencode(path))
    return path.read_bytes() if stat.S_ISREG(mode) else b""


def _xattrs(path: Path) -> dict[bytes, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}


def _groups(numbers: dict[str, int]) -> dict[str, Any]:
    """By name, all names of the same file."""
    names: dict[int, list[str]] = {}
    for name, number in numbers.items():
        names.setdefault(number, []).append(name)
    return {f"names of {name}": sorted(names[number]) for name, number in numbers.items()}


def _both(in_union: Callable[[], object], in_plain: Callable[[], object]) -> bool:
    """Do the same in both; whether it succeeded."""
    found, expected = _error(in_union), _error(in_plain)
    # Which of several reasons is told depends on what the kernel looks at before it asks the union.
    assert bool(found) == bool(expected), (found, expected)
    return not expected


def _error(do: Callable[[], object]) -> str:
    try:
        do()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def _create(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), 0o644)
