"""A crash at any point of a change leaves the union as it was before or as it is after, never between.

The crash is simulated: from its N-th changing system call on, an operation gets none through (its own clean-up neither), and a
new union is opened on the same directories.  N runs over all of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.overlay.client import ROOT, Client, build
from unionfs.filesystem import ROOT_ID, SET_MODE, Changes
from unionfs.linux.rename import RENAME_EXCHANGE
from unionfs.overlay import Options, Stack, Union, creation, data_copy, rename, whiteouts, work_dir
from unionfs.overlay.options import WhiteoutForm

State = dict[str, tuple[Any, ...]]
Layers = Callable[..., Stack]
DEFAULTS = Options()

CHANGING = (
    "rename",
    "link",
    "mkdir",
    "mknod",
    "symlink",
    "unlink",
    "rmdir",
    "chown",
    "chmod",
    "fchmod",
    "setxattr",
    "removexattr",
    "utime",
    "ftruncate",
)
CHANGING_OURS = (
    (creation, "link_fd"),
    (rename, "renameat2"),
    (whiteouts, "renameat2"),
    (work_dir, "link_fd"),
    (data_copy, "clone_range"),
)

DEFAULTS = Options()


class CrashError(BaseException):
    """The power is off."""


class PowerSwitch:
    """Counts changing system calls and lets none through after the first ``remaining``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.remaining = 1 << 30
        self.calls = 0
        for name in CHANGING:
            monkeypatch.setattr(os, name, self._guarded(getattr(os, name)))
        for module, name in CHANGING_OURS:
            monkeypatch.setattr(module, name, self._guarded(getattr(module, name)))
        opening, making = os.open, self._guarded(os.open)
        monkeypatch.setattr(
            os,
            "open",
            lambda path, flags, *args, **options: (making if flags & os.O_CREAT else opening)(path, flags, *args, **options),
        )

    def _guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls > self.remaining:
                raise CrashError
            return call(*args, **options)

        return guarded


def chmod(client: Client, path: str) -> None:
    client.call(client.union.setattr, client.node(path), Changes(SET_MODE, mode=0o600), ROOT)


SCENARIOS: dict[str, tuple[Callable[[Client], object], Callable[[Client], object]]] = {
    # name: what was done before, the operation
    "copy_up": (lambda _: None, lambda c: chmod(c, "d/f")),
    "copy_up_directory": (lambda _: None, lambda c: chmod(c, "d/sub")),
    "truncating_open": (lambda _: None, lambda c: c.call(c.union.open, c.node("d/f"), os.O_WRONLY | os.O_TRUNC, ROOT)),
    "unlink_lower": (lambda _: None, lambda c: c.unlink("d/f")),
    "unlink_copied_up": (lambda c: chmod(c, "d/f"), lambda c: c.unlink("d/f")),
    "unlink_upper": (lambda c: c.write("d/new", b"new"), lambda c: c.unlink("d/new")),
    "rmdir_lower": (lambda c: c.unlink("d/sub/g"), lambda c: c.rmdir("d/sub")),
    "create_over_whiteout": (
        lambda c: c.unlink("d/f"),
        lambda c: c.call(c.union.mknod, *c.place("d/f"), 0o100644, 0, ROOT),
    ),
    "mkdir_over_whiteout": (lambda c: (c.unlink("d/sub/g"), c.rmdir("d/sub")), lambda c: c.mkdir("d/sub")),
    "rename_lower": (lambda _: None, lambda c: c.rename("d/f", "d/moved")),
    "rename_lower_over_lower": (lambda _: None, lambda c: c.rename("d/f", "d/h")),
    "rename_over_whiteout": (lambda c: c.unlink("d/h"), lambda c: c.rename("d/f", "d/h")),
    "rename_directory_over_emptied": (
        lambda c: (c.unlink("d/sub/g"), c.mkdir("made"), c.write("made/x", b"x")),
        lambda c: c.rename("made", "d/sub"),
    ),
    "rename_directory_over_whiteout": (
        lambda c: (c.unlink("d/sub/g"), c.rmdir("d/sub"), c.mkdir("made"), c.write("made/x", b"x")),
        lambda c: c.rename("made", "d/sub"),
    ),
    "exchange": (lambda c: c.mkdir("made"), lambda c: c.rename("made", "d/f", RENAME_EXCHANGE)),
    "link_over_whiteout": (lambda c: c.unlink("d/h"), lambda c: c.call(c.union.link, c.node("d/f"), *c.place("d/h"))),
}

LINK_SCENARIOS: dict[str, tuple[Callable[[Client], object], Callable[[Client], object]]] = {
    "copy_up": (lambda _: None, lambda c: chmod(c, "d/f")),
    "truncating_open": (lambda _: None, lambda c: c.call(c.union.open, c.node("f"), os.O_WRONLY | os.O_TRUNC, ROOT)),
    "truncating_open_after_chmod": (
        lambda c: chmod(c, "d/f"),
        lambda c: c.call(c.union.open, c.node("f"), os.O_WRONLY | os.O_TRUNC, ROOT),
    ),
    "unlink_lower": (lambda _: None, lambda c: c.unlink("f")),
    "unlink_indexed_by_another_name": (lambda c: chmod(c, "d/f"), lambda c: c.unlink("f")),
    "unlink_the_last_name": (lambda c: (c.unlink("d/f"), c.unlink("f")), lambda c: c.unlink("d/sub/f")),
    "rename": (lambda _: None, lambda c: c.rename("f", "g")),
    "rename_over_another_file": (lambda c: chmod(c, "d/f"), lambda c: c.rename("f", "d/h")),
    "rename_over_a_name": (lambda _: None, lambda c: c.rename("d/h", "f")),
    "exchange": (lambda _: None, lambda c: c.rename("d/h", "f", RENAME_EXCHANGE)),
    "link": (lambda _: None, lambda c: c.call(c.union.link, c.node("f"), *c.place("new"))),
}


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    """Makes stacks with equal contents; ``linked``: one of the files has three names."""
    built: list[Path] = []

    def make(name: str, linked: bool = False) -> Stack:
        root = tmp_path / name
        built.append(root)
        lower = build(root / "lower", {"d/f": b"the file", "d/h": b"another", "d/sub/g": b"deep"})
        if linked:
            for name in ("d/sub/f", "f"):
                os.link(lower / "d/f", lower / name)
        return Stack((lower,), build(root / "upper", {}), build(root / "work", {}))

    yield make
    for root in built:
        shown = state(Stack((root / "lower",)))
        file = (0o644, b"the file", 3 if "f" in shown else 1)
        assert shown == {
            "d": ("dir",), "d/f": file, "d/h": (0o644, b"another", 1), "d/sub": ("dir",), "d/sub/g": (0o644, b"deep", 1),
            **({"d/sub/f": file, "f": file} if "f" in shown else {}),
        }  # fmt: skip


def state(stack: Stack, options: Options = DEFAULTS) -> State:
    """Everything a new mount of ``stack`` shows, but modes of directories."""
    union = Union(stack, options)
    try:
        client = Client(union)
        found: State = {}
        _walk(client, ROOT_ID, "", found)
        return found
    finally:
        union.close()


def _walk(client: Client, node: int, path: str, found: State) -> None:
    for row in list(client.union.readdirplus(node, 0)):
        if row.entry is None:
            continue
        name = f"{path}/{os.fsdecode(row.name)}".lstrip("/")
        if row.kind == 4:
            found[name] = ("dir",) if row.entry.attr.mode & 0o777 == 0o755 else ("dir", row.entry.attr.mode)
            _walk(client, row.entry.node, name, found)
        else:
            attr = row.entry.attr
            found[name] = (attr.mode & 0o7777, bytes(client.call(client.union.read, row.entry.node, 0, 100)), attr.nlink)


def run(stack: Stack, action: Callable[[Client], object], options: Options = DEFAULTS) -> None:
    """One union from opening to a clean end."""
    union = Union(stack, options)
    action(Client(union))
    union.close()


def no_attributes(*_args: object, **_options: object) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize(
    ("form", "has_xattrs"),
    [("dev", True), ("xattr", True), ("wh", True), ("dev", False), ("wh", False)],
    ids=["dev", "xattr", "wh", "dev-without-xattrs", "wh-without-xattrs"],
)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_crash_leaves_the_state_before_or_after(
    scenario: str, form: WhiteoutForm, has_xattrs: bool, layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, operate = SCENARIOS[scenario]
    if not has_xattrs:
        monkeypatch.setattr(os, "setxattr", no_attributes)
    check_all_crashes(prepare, operate, layers, monkeypatch, Options(whiteout=form))


@pytest.mark.parametrize("scenario", LINK_SCENARIOS)
@pytest.mark.parametrize("metacopy", [False, True], ids=["data", "metacopy"])
def test_crash_leaves_all_names_of_an_indexed_file_before_or_after(
    scenario: str, metacopy: bool, layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, operate = LINK_SCENARIOS[scenario]
    check_all_crashes(prepare, operate, partial(layers, linked=True), monkeypatch, Options(index="on", metacopy=metacopy))


def check_all_crashes(
    prepare: Callable[[Client], object],
    operate: Callable[[Client], object],
    layers: Layers,
    monkeypatch: pytest.MonkeyPatch,
    options: Options,
) -> None:
    """Carry out ``operate`` as often as it has changing system calls, with a crash before each of them."""
    reference = layers("reference")
    run(reference, prepare, options)
    before = state(reference, options)
    with monkeypatch.context() as patch:
        union = Union(reference, options)
        client = Client(union)
        switch = PowerSwitch(patch)
        operate(client)
        total = switch.calls
    union.close()
    after = state(reference, options)
    assert before != after
    assert total > 0
    for remaining in range(total):
        stack = layers(f"crash{remaining}")
        run(stack, prepare, options)
        crash(stack, operate, remaining, monkeypatch, options)
        assert state(stack, options) in (before, after), f"crash before changing call {remaining + 1} of {total}"


def crash(
    stack: Stack, operate: Callable[[Client], object], remaining: int, monkeypatch: pytest.MonkeyPatch, options: Options
) -> None:
    """Run ``operate`` with only ``remaining`` changing system calls; what the process had open is given back without another
    one."""
    union = Union(stack, options)
    client = Client(union)
    with monkeypatch.context() as patch:
        switch = PowerSwitch(patch)
        switch.remaining = remaining
        with pytest.raises(CrashError):
            operate(client)
    union.close()
