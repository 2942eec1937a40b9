"""Lower layers that come and go under a union in use: what is seen afterwards is what a fresh mount of the layers shows."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.overlay.client import Client, build
from tests.overlay.kernel_cache import KernelCache
from unionfs.filesystem import ROOT_ID, StaleContents, StaleName
from unionfs.overlay import LayersChange, Options, Stack, Union, open_lower

NAMES = ("a", "b", "c", "d")
RAW_NAMES = tuple(name.encode() for name in NAMES)


class Live:
    """A union with what its kernel remembers, whose lowers are changed by their paths."""

    def __init__(self, directory: Path, lowers: Sequence[Path], options: Options = Options(), writable: bool = True) -> None:  # noqa: B008
        self.upper = build(directory / "upper", {}) if writable else None
        self.work = build(directory / "work", {}) if writable else None
        self.options = options
        self.client = Client(Union(Stack(tuple(lowers), self.upper, self.work), options))
        self.kernel = KernelCache(self.client)

    @property
    def union(self) -> Union:
        return self.client.union

    @property
    def paths(self) -> list[Path]:
        return [layer.path for layer in self.union.lowers]

    def plan(self, paths: Sequence[Path]) -> LayersChange:
        """The change to lowers at these paths."""
        present = {layer.path: layer for layer in self.union.lowers}
        return self.union.change_layers([present.get(path) or open_lower(0, path) for path in paths])

    def change(self, *paths: Path) -> None:
        """Make the change; what is in the way is let go of."""
        change = self.plan(paths)
        if change.in_the_way:
            change.discard()
            self.kernel.let_go()
            change = self.plan(paths)
        self.kernel.tell(change.apply())

    def refresh(self) -> None:
        self.kernel.tell(self.union.reread_layers(kernel_keeps_sizes=False).apply())

    def reopened(self) -> Live:
        """A fresh mount of the same layers."""
        lowers = self.paths
        self.union.close()
        fresh = Live.__new__(Live)
        fresh.upper, fresh.work, fresh.options = self.upper, self.work, self.options
        fresh.client = Client(Union(Stack(tuple(lowers), self.upper, self.work), self.options))
        fresh.kernel = KernelCache(fresh.client)
        return fresh

    def assert_like_fresh_mount(self) -> None:
        """What is seen now, from memory too, is what is seen after a new start.  Closes the union."""
        seen = self.kernel.tree(RAW_NAMES)
        fresh = self.reopened()
        assert seen == fresh.kernel.tree(RAW_NAMES)  # what cannot be looked up may be missing in the listing
        fresh.union.close()


def test_layer_added_at_the_bottom_shows_only_what_nothing_hides(tmp_path: Path) -> None:
    top = build(tmp_path / "top", {"f": b"top", "d/x": b"x", "file": b"file"})
    live = Live(tmp_path, [top])
    live.client.write("new", b"upper")
    live.client.unlink("f")
    assert live.kernel.lookup(ROOT_ID, b"below") is None
    live.kernel.tree()
    live.change(top, build(tmp_path / "bottom", {"f": b"bottom", "d/y": b"y", "below": b"below", "file/g": b"g", "new": b"n"}))
    assert live.kernel.tree().keys() == {b"", b"/new", b"/d", b"/d/x", b"/d/y", b"/below", b"/file"}
    live.assert_like_fresh_mount()


def test_layer_added_on_top_hides_and_reveals(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"f": b"base", "gone": b"gone", "d/x": b"x", "dir/y": b"y", "opaque/z": b"z"})
    live = Live(tmp_path, [base])
    live.kernel.tree(RAW_NAMES)
    top = build(tmp_path / "top", {"f": b"top", "d": b"a file", "a": b"a", "opaque/new": b"n"})
    os.mknod(top / "gone", 0o020000, 0)
    os.setxattr(top / "opaque", "trusted.overlay.opaque", b"y")
    live.change(top, base)
    assert live.client.read("f") == b"top"
    assert live.client.names("opaque") == [b"new"]
    live.assert_like_fresh_mount()


def test_file_open_while_a_layer_hides_it_keeps_its_contents(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"d/f": b"base"})
    live = Live(tmp_path, [base])
    node, directory = live.client.node("d/f"), live.client.node("d")
    live.change(build(tmp_path / "top", {"d": b"a file now"}), base)
    assert live.client.call(live.union.read, node, 0, 100) == b"base"
    assert live.union.getattr(node).nlink == 0
    assert [row.name for row in live.union.readdir(directory, 0)] == [b".", b".."]
    assert live.client.call(live.union.write, node, 0, b"B") == 1
    assert live.client.call(live.union.read, node, 0, 100) == b"Base"
    assert (tmp_path / "base/d/f").read_bytes() == b"base"
    live.assert_like_fresh_mount()


def test_node_ids_and_inode_numbers_stay_where_the_object_stays(tmp_path: Path) -> None:
    middle = build(tmp_path / "middle", {"d/f": b"f", "d/e/g": b"g", "l": b"l"})
    live = Live(tmp_path, [middle])
    live.client.write("d/mine", b"mine")
    before = {path: (live.client.node(path), live.client.attr(path).ino) for path in ("d", "d/f", "d/e", "d/e/g", "d/mine", "l")}
    top, bottom = build(tmp_path / "top", {"d/t": b"t", "l2": b""}), build(tmp_path / "bottom", {"d/e/b": b"b"})
    live.change(top, middle)
    live.change(top, middle, bottom)
    live.change(middle, bottom)
    assert {path: (live.client.node(path), live.client.attr(path).ino) for path in before} == before
    assert [layer.label for layer in live.union.lowers] == ["lower[0]", "lower[1]"]
    assert live.union.explain(b"d/e/b")["layer"] == "lower[1]"
    live.assert_like_fresh_mount()


def test_layer_with_a_file_in_use_cannot_be_removed(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {"d/f": b"top"}), build(tmp_path / "base", {"d/g": b"base"})
    live = Live(tmp_path, [top, base])
    node = live.client.node("d/f")
    live.kernel.tree()
    change = live.plan([base])
    assert [(entry.path, entry.names) for entry in change.in_the_way] == [
        ("d/f", [StaleName(live.client.node("d"), b"f")]),
    ]
    change.discard()
    live.kernel.let_go(node)
    change = live.plan([base])
    assert change.is_held
    change.discard()
    assert live.client.call(live.union.read, node, 0, 100) == b"top"
    live.kernel.let_go()
    assert not change.is_held
    live.change(base)
    assert live.client.names("d") == [b"g"]
    live.assert_like_fresh_mount()


def test_layer_with_a_removed_file_in_use_cannot_be_removed(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {"f": b"top"}), build(tmp_path / "base", {})
    live = Live(tmp_path, [top, base])
    live.client.node("f")
    live.client.unlink("f")
    change = live.plan([base])
    assert [(entry.path, entry.names) for entry in change.in_the_way] == [("f (removed, but open)", [])]
    change.discard()
    live.union.close()


def test_layer_whose_file_was_copied_up_while_open_is_in_use(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {"f": b"top"}), build(tmp_path / "base", {})
    live = Live(tmp_path, [top, base])
    node = live.client.node("f")
    live.union.pin(node)
    live.client.chmod("f", 0o600)
    (entry,) = live.plan([base]).in_the_way
    assert (entry.path, entry.names) == ("f", [StaleName(ROOT_ID, b"f")])
    live.union.unpin(node)
    live.union.forget(node, entry.inode.nlookup)
    live.change(base)
    assert live.client.read("f") == b"top"
    live.assert_like_fresh_mount()


def test_layer_with_the_data_of_a_metadata_only_copy_in_use_cannot_be_removed(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {}), build(tmp_path / "base", {"f": b"data"})
    live = Live(tmp_path, [top, base], Options(metacopy=True))
    live.client.chmod("f", 0o600)
    (entry,) = live.plan([top]).in_the_way
    assert entry.path == "f"
    live.union.close()


def test_removed_layer_is_not_in_use_any_more(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {"d/e": None}), build(tmp_path / "base", {"d/e/g": b"base"})
    live = Live(tmp_path, [top, base])
    live.kernel.tree()
    identities = {(st.st_dev, st.st_ino) for st in map(os.stat, (top, top / "d", top / "d/e"))}
    assert identities <= _open_objects()
    live.change(base)
    assert identities.isdisjoint(_open_objects())
    live.assert_like_fresh_mount()


def _open_objects() -> set[tuple[int, int]]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            st = os.fstat(int(fd))
            found.add((st.st_dev, st.st_ino))
    return found


def test_layer_that_would_change_the_data_of_a_metadata_only_copy_in_use_is_in_the_way(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {"f": b"other"}), build(tmp_path / "base", {"f": b"data."})
    live = Live(tmp_path, [base], Options(metacopy=True))
    live.client.chmod("f", 0o600)
    change = live.plan([top, base])
    assert [entry.path for entry in change.in_the_way] == ["f"]
    change.discard()
    assert live.client.read("f") == b"data."
    live.change(top, base)
    assert live.client.read("f") == b"other"
    live.assert_like_fresh_mount()


def test_data_in_a_data_only_layer_stays_whatever_the_lowers(tmp_path: Path) -> None:
    base, data = build(tmp_path / "base", {"f": b"", "g": b""}), build(tmp_path / "data", {"d/object": b"data"})
    for name in ("f", "g"):
        os.truncate(base / name, 4)
        os.setxattr(base / name, "trusted.overlay.metacopy", b"")
        os.setxattr(base / name, "trusted.overlay.redirect", b"/d/object")
    client = Client(Union(Stack((base,), data=(data,))))
    nodes = client.node("f"), client.node("g")
    assert client.read("f") == b"data"  # that of g is not looked for yet
    change = client.union.change_layers([*client.union.lowers, open_lower(1, build(tmp_path / "bottom", {"h": b""}))])
    assert change.in_the_way == []
    change.apply()
    assert (client.node("f"), client.node("g")) == nodes
    assert client.read("f") == client.read("g") == b"data"
    client.union.close()


def test_file_that_another_layer_has_by_another_name_is_not_in_the_way(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {"x": b"linked"}), build(tmp_path / "base", {})
    os.link(top / "x", base / "y")
    live = Live(tmp_path, [top, base], writable=False)
    node = live.client.node("x")
    assert live.client.node("y") == node
    change = live.plan([base])
    assert change.in_the_way == []
    change.apply()
    assert live.client.names("") == [b"y"]
    assert live.client.call(live.union.read, node, 0, 100) == b"linked"
    live.union.close()


def test_directory_that_only_its_lost_child_kept_leaves_the_table(tmp_path: Path) -> None:
    top, base = build(tmp_path / "top", {"d/f": b"top"}), build(tmp_path / "base", {"d/f": b"base"})
    live = Live(tmp_path, [base])
    live.client.node("d/f")
    live.union.forget(live.client.node("d"), 2)
    live.change(top, base)
    assert live.union.statistics()["inodes"] == 2  # the root, and the file that is open without a name
    live.assert_like_fresh_mount()


def test_change_that_fails_leaves_the_old_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = build(tmp_path / "base", {"d/f": b"base"})
    live = Live(tmp_path, [base])
    before = live.kernel.tree(RAW_NAMES)
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "a disk that fails")

        patched.setattr("unionfs.overlay.tree.merge", fail)
        with pytest.raises(OSError, match="a disk that fails"):
            live.plan([build(tmp_path / "top", {"d/x": b"x"}), base])
    assert live.paths == [base]
    live.kernel.let_go()
    assert live.kernel.tree(RAW_NAMES) == before
    live.assert_like_fresh_mount()


def test_change_that_is_dropped_leaves_the_old_layers(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"d/f": b"base"})
    live = Live(tmp_path, [base])
    before = live.kernel.tree(RAW_NAMES)
    live.plan([build(tmp_path / "top", {"d/f": b"top", "d/x": b"x"}), base]).discard()
    live.kernel.let_go()
    assert live.kernel.tree(RAW_NAMES) == before
    live.assert_like_fresh_mount()


def test_reader_of_a_listing_sees_the_new_names_of_the_next_one(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {f"f{number}": b"" for number in range(4)})
    live = Live(tmp_path, [base], writable=False)
    rows = list(live.union.readdir(ROOT_ID, 0))
    live.change(base, build(tmp_path / "bottom", {"new": b""}))
    rest = [row.name for row in live.union.readdir(ROOT_ID, rows[3].offset)]
    assert rest == [row.name for row in rows[4:]]
    assert [row.name for row in live.union.readdir(ROOT_ID, 0)] == [row.name for row in rows] + [b"new"]
    live.union.close()


def test_redirects_lead_into_an_added_layer(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"a/x": b"x", "b": None})
    live = Live(tmp_path, [base])
    live.client.rename("a", "b/moved")
    live.kernel.tree(RAW_NAMES)
    live.change(base, build(tmp_path / "bottom", {"a/y": b"y", "b/moved/z": b"z"}))
    assert sorted(live.client.names("b/moved")) == [b"x", b"y"]
    live.assert_like_fresh_mount()


def test_names_of_one_lower_file_stay_names_of_one_file(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"a": b"linked", "d": None})
    os.link(base / "a", base / "b")
    live = Live(tmp_path, [base], Options(index="on"))
    live.client.write("a", b"L")
    live.kernel.tree()
    live.change(base, build(tmp_path / "bottom", {"c": b"c"}))
    live.client.write("b", b"I", 1)
    assert live.client.read("a") == live.client.read("b") == b"LInked"
    assert live.client.attr("a").ino == live.client.attr("b").ino
    live.kernel.tree()
    live.client.unlink("a")
    assert live.client.read("b") == b"LInked"
    live.union.close()


# -- refresh ----------------------------------------------------------------------------------------------------------------


def test_refresh_shows_what_was_changed_underneath(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"same": b"same", "content": b"1", "replaced": b"old", "gone": b"", "d/f": b"f", "was": None})
    live = Live(tmp_path, [base])
    live.client.write("mine", b"mine")
    same = live.client.node("same")
    live.kernel.tree(RAW_NAMES)
    (base / "content").write_bytes(b"longer")
    (base / "content").chmod(0o600)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").rename(base / "replaced")
    (base / "gone").unlink()
    (base / "a").write_bytes(b"appeared")
    (base / "d" / "b").mkdir()
    (base / "was").rmdir()
    (base / "was").symlink_to("same")
    live.refresh()
    assert live.client.node("same") == same
    assert live.client.read("replaced") == b"new"
    live.assert_like_fresh_mount()


def test_refresh_leaves_an_object_that_is_gone_stale(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"gone": b"", "d/f": b"f"})
    live = Live(tmp_path, [base])
    nodes = [live.client.node(path) for path in ("gone", "d", "d/f")]
    (base / "gone").unlink()
    (base / "d/f").unlink()
    (base / "d").rmdir()
    live.refresh()
    for node in nodes:
        with pytest.raises(OSError, match="Stale"):
            live.union.getattr(node)
        live.union.forget(node, 1)
    live.assert_like_fresh_mount()


def test_refresh_tells_the_kernel_of_changed_files_only(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"same": b"s", "changed": b"c"})
    live = Live(tmp_path, [base])
    live.client.write("upper", b"u")
    nodes = {name: live.client.node(name) for name in ("same", "changed", "upper")}
    (base / "changed").write_bytes(b"longer")
    notices = live.union.reread_layers(kernel_keeps_sizes=False).apply()
    assert notices == [StaleContents(ROOT_ID), StaleContents(nodes["changed"])]
    assert live.union.reread_layers(kernel_keeps_sizes=False).apply() == [StaleContents(ROOT_ID)]
    live.union.close()


def test_changed_file_becomes_another_inode_where_the_kernel_keeps_sizes(tmp_path: Path) -> None:
    base = build(tmp_path / "base", {"same": b"s", "changed": b"c"})
    live = Live(tmp_path, [base])
    same, changed = live.client.node("same"), live.client.node("changed")
    (base / "changed").write_bytes(b"longer")
    notices = live.union.reread_layers(kernel_keeps_sizes=True).apply()
    assert notices == [StaleName(ROOT_ID, b"changed"), StaleContents(ROOT_ID)]
    assert live.client.node("same") == same
    assert live.client.node("changed") != changed
    assert live.client.call(live.union.read, changed, 0, 100) == b"longer"
    live.union.close()


# -- whatever was done before -------------------------------------------------------------------------------------------------


def _random_layer(path: Path, chance: random.Random) -> Path:
    """Few names in all roles, so that layers meet each other."""
    path.mkdir()
    directories, files = [path], []
    for _ in range(9):
        target = chance.choice(directories) / chance.choice(NAMES)
        role = chance.choice(("file", "file", "directory", "directory", "opaque", "whiteout", "link", "name"))
        if os.path.lexists(target):
            continue
        if role == "file" or not files:
            target.write_bytes(f"{target.relative_to(path)} of {path.name}".encode())
            files.append(target)
        elif role == "name":
            os.link(chance.choice(files), target)
        elif role == "whiteout":
            os.mknod(target, 0o020000, 0)
        elif role == "link":
            target.symlink_to(chance.choice(NAMES))
        else:
            target.mkdir()
            directories.append(target)
            if role == "opaque":
                os.setxattr(target, "trusted.overlay.opaque", b"y")
    return path


def _random_step(client: Client, chance: random.Random) -> None:
    """Something done to the union, if it can be."""
    path, other = ("/".join(chance.choices(NAMES, k=chance.choice((1, 1, 2, 3)))) for _ in range(2))
    step = chance.choice(("write", "chmod", "unlink", "rmdir", "mkdir", "rename", "rename", "link"))
    try:
        if step == "write":
            client.write(path, b"written")
        elif step == "chmod":
            client.chmod(path, 0o700)
        elif step == "rename":
            # The kernel itself refuses to move a directory into itself.
            if not f"{other}/".startswith(f"{path}/"):
                client.rename(path, other)
        elif step == "link":
            client.call(client.union.link, client.node(path), *client.place(other))
        else:
            getattr(client, step)(path)
    except OSError:
        pass  # not there, not empty, …: what is left is as good a state as any


@pytest.mark.parametrize(
    "options",
    [Options(), Options(metacopy=True), Options(redirect_dir="off"), Options(index="on")],
    ids=["plain", "metacopy", "no-redirects", "index"],
)
@pytest.mark.parametrize("seed", range(15))
def test_whatever_was_done_a_change_shows_what_a_fresh_mount_does(tmp_path: Path, seed: int, options: Options) -> None:
    chance = random.Random(seed)  # noqa: S311
    layers = [_random_layer(tmp_path / f"layer{number}", chance) for number in range(5)]
    live = Live(tmp_path, layers[:2], options)
    for _ in range(4):
        for _ in range(8):
            _random_step(live.client, chance)
        live.kernel.tell(StaleContents(inode.node) for inode in live.union._nodes)
        live.kernel._entries.clear()
        live.kernel.tree(RAW_NAMES)
        lowers = chance.sample(layers, chance.choice((1, 2, 3, 4)))
        if options.index == "on":  # which goes by the topmost layer
            lowers = [layers[0], *(layer for layer in lowers if layer is not layers[0])]
        live.change(*lowers)
        live.kernel.tree(RAW_NAMES)
    live.assert_like_fresh_mount()
