"""``unionfs layers`` and ``unionfs refresh`` on real mounts: the kernel's memory is told, and what is in use stays."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.tree import Snapshot, differences
from tests.cli.conftest import TIMEOUT, Programs
from tests.mounts import DIRECT, DIRECT_CACHED, PYFUSE3, UnionfsBackend
from tests.overlay.client import build
from tests.programs import run, wait_until
from unionfs.mounter.errors import MounterError
from unionfs.mounter.layers import add_layer, list_layers, refresh, remove_layer

_WHITEOUT = 0o020000


class Mounted:
    """A union in whose layers names meet each other."""

    def __init__(self, programs: Programs, directory: Path, arguments: tuple[str, ...]) -> None:
        self.programs = programs
        self.arguments = arguments
        self.base = build(
            directory / "base",
            {"f": b"base", "gone": b"gone", "d/x": b"x", "d/sub/s": b"s", "moves/m": b"m", "opaque/o": b"o", "only/here": b"h"},
        )
        self.top = build(
            directory / "top", {"f": b"top, longer", "d/t": b"t", "d/sub": b"a file", "opaque/new": b"n", "new": b"new"}
        )
        os.mknod(self.top / "gone", _WHITEOUT, 0)
        os.setxattr(self.top / "opaque", "trusted.overlay.opaque", b"y")
        self.bottom = build(
            directory / "bottom", {"f": b"bottom", "d/b": b"b", "moves/below": b"B", "moved/hidden": b"H", "mine/c": b"c"}
        )
        self.upper = build(directory / "upper", {})
        self.merged = build(directory / "merged", {})

    def mount(self, *lowers: Path) -> None:
        named = [argument for lower in lowers for argument in ("-l", lower)]
        self.programs.unionfs("mount", *self.arguments, *named, "-u", self.upper, self.merged)

    def umount(self) -> None:
        self.programs.unionfs("umount", self.merged)

    # What the commands do, without starting a program for each.

    def add(self, layer: Path) -> None:
        assert add_layer(self.merged, layer, top=False) == layer

    def add_on_top(self, layer: Path) -> None:
        assert add_layer(self.merged, layer, top=True) == layer

    def remove(self, layer: Path) -> None:
        assert remove_layer(self.merged, layer) == layer

    def refusal(self, layer: Path) -> str:
        with pytest.raises(MounterError) as refused:
            remove_layer(self.merged, layer)
        return str(refused.value)

    def is_removed(self, layer: Path) -> bool:
        """Remove it unless it is in use just now."""
        with contextlib.suppress(MounterError):
            self.remove(layer)
        return layer not in self.lowers()

    def lowers(self) -> list[Path]:
        return [Path(layer.path) for layer in list_layers(self.merged) if layer.label != "upper"]

    def fill_caches(self) -> None:
        """Have the kernel remember all that is there, and of all names somewhere that they are not elsewhere."""
        Snapshot.of(self.merged)
        for layer in (self.base, self.top, self.bottom):
            for path in layer.rglob("*"):
                (self.merged / path.relative_to(layer)).exists()

    def assert_like_fresh_mount(self) -> None:
        """Unmounts."""
        lowers, seen = self.lowers(), Snapshot.of(self.merged)
        self.umount()
        self.mount(*lowers)
        assert differences(seen, Snapshot.of(self.merged)) == []
        self.umount()


@pytest.fixture(params=[DIRECT, DIRECT_CACHED, PYFUSE3], ids=lambda backend: backend.name)
def union(request: pytest.FixtureRequest, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(programs.registry))
    backend: UnionfsBackend = request.param
    return Mounted(programs, tmp_path, backend.arguments)


@contextlib.contextmanager
def in_directory(path: Path) -> Iterator[None]:
    """Somebody whose current directory is ``path``."""
    waiting = subprocess.Popen(["sh", "-c", 'cd "$1" && echo there && read -r _', "sh", path], stdin=-1, stdout=-1, text=True)
    with waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "there\n"
        yield
        waiting.communicate("", TIMEOUT)


def test_changed_layers_show_as_in_a_fresh_mount(union: Mounted) -> None:
    union.mount(union.base)
    (union.merged / "moves").rename(union.merged / "moved")
    (union.merged / "mine").mkdir()
    (union.merged / "d/x").chmod(0o600)
    (union.merged / "opaque/o").unlink()
    for change, layer in (
        (union.add_on_top, union.top),
        (union.add, union.bottom),
        (union.remove, union.base),
        (union.add, union.base),
    ):
        union.fill_caches()
        change(layer)
    assert union.lowers() == [union.top, union.bottom, union.base]
    assert (union.merged / "f").read_bytes() == b"top, longer"
    assert sorted(os.listdir(union.merged / "moved")) == ["below", "m"]
    assert os.listdir(union.merged / "mine") == ["c"]
    union.fill_caches()
    union.remove(union.top)
    assert (union.merged / "f").read_bytes() == b"bottom"
    union.assert_like_fresh_mount()


def test_layer_in_use_is_not_removed(union: Mounted) -> None:
    union.mount(union.top, union.base)
    merged = union.merged
    before = Snapshot.of(merged)
    remedy = f"end what uses it (fuser -vm {merged}) and try again"
    with (merged / "only/here").open() as file:
        assert union.refusal(union.base) == f"{union.base}: cannot be removed: {merged}/only/here is in use; {remedy}"
        assert file.read() == "h"
    with in_directory(merged / "only"):
        assert union.refusal(union.base) == f"{union.base}: cannot be removed: {merged}/only is in use; {remedy}"
    run(["mount", "-t", "tmpfs", "none", merged / "only"])
    assert f"something is mounted on {merged}/only;" in union.refusal(union.base)
    run(["umount", merged / "only"])
    assert differences(before, Snapshot.of(merged)) == []
    if union.arguments != DIRECT_CACHED.arguments:  # there the kernel writes the ctime of a removed file, which copies it up
        with (merged / "new").open() as file:
            (merged / "new").unlink()
            assert f"{merged}/new (removed, but open) is in use;" in union.refusal(union.top)
            assert file.read() == "new"
    union.remove(union.base)
    assert not (merged / "only").exists()
    union.umount()


def test_file_that_a_new_layer_hides_stays_for_those_who_have_it_open(union: Mounted) -> None:
    union.mount(union.base)
    with (union.merged / "d/sub/s").open() as inside, (union.merged / "f").open() as file, in_directory(union.merged / "d/sub"):
        union.add_on_top(union.top)
        assert (union.merged / "f").read_text() == "top, longer"
        assert (union.merged / "d/sub").read_text() == "a file"
        assert (file.read(), inside.read()) == ("base", "s")
        assert os.fstat(file.fileno()).st_ino != (union.merged / "f").stat().st_ino
    union.umount()


def test_what_does_not_change_stays_open_mounted_and_the_same(union: Mounted) -> None:
    union.mount(union.base)
    merged = union.merged
    run(["mount", "-t", "tmpfs", "none", merged / "only"])
    (merged / "only/mark").touch()
    (merged / "written").write_text("1")
    inos = {path: path.lstat().st_ino for path in (merged, merged / "d", merged / "d/x", merged / "written")}
    with (merged / "written").open("r+") as file, in_directory(merged / "d"):
        union.add_on_top(union.top)
        union.add(union.bottom)
        file.write("2")
        file.flush()
        assert (merged / "written").read_text() == "2"
        assert sorted(os.listdir(merged / "d")) == ["b", "sub", "t", "x"]
    assert {path: path.lstat().st_ino for path in inos} == inos
    assert (merged / "only/mark").exists()
    run(["umount", merged / "only"])
    union.umount()


def test_removed_layer_is_not_in_use_any_more(union: Mounted) -> None:
    disk = build(union.merged.parent / "disk", {})
    run(["mount", "-t", "tmpfs", "none", disk])
    build(disk, {"d/y": b"y", "changed": b"c"})
    union.mount(union.base)
    union.add_on_top(disk)
    union.fill_caches()
    (union.merged / "changed").write_text("copied up")
    daemon = Path(f"/proc/{union.programs.daemon_of(union.merged)}/fd")
    device = disk.stat().st_dev
    assert any(fd.is_dir() and fd.stat().st_dev == device for fd in daemon.iterdir())
    union.remove(disk)
    assert not any(fd.exists() and fd.stat().st_dev == device for fd in daemon.iterdir())
    run(["umount", disk])
    assert (union.merged / "changed").read_text() == "copied up"
    assert not (union.merged / "d/y").exists()
    union.umount()


def test_changes_while_the_mount_is_busy(union: Mounted) -> None:
    union.mount(union.base)
    walk = """if True:
        import os, sys
        while sys.stdin not in select.select([sys.stdin], [], [], 0)[0]:
            for directory, _, names in os.walk(sys.argv[1]):
                for name in (*names, "new", "b", "t"):
                    try:
                        with open(os.path.join(directory, name), "rb") as file:
                            file.read()
                    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                        pass
            made = os.path.join(sys.argv[1], sys.argv[2])
            os.mkdir(made)
            open(made + "/file", "w").close()
            os.rename(made, made + "2")
            os.unlink(made + "2/file")
            os.rmdir(made + "2")
        """
    command = [sys.executable, "-c", "import select\n" + walk, union.merged]
    busy = [subprocess.Popen([*command, name], stdin=-1, stderr=-1, text=True) for name in ("p", "q")]
    union.add_on_top(union.top)
    union.add(union.bottom)
    wait_until(lambda: union.is_removed(union.top))
    wait_until(lambda: union.is_removed(union.bottom))
    for process in busy:
        assert process.communicate("", TIMEOUT)[1] == ""
        assert process.returncode == 0
    assert union.lowers() == [union.base]
    union.umount()


def test_refresh_shows_what_was_changed_underneath(union: Mounted) -> None:
    union.mount(union.top, union.base)
    (union.merged / "d/x").chmod(0o600)
    union.fill_caches()
    (union.base / "d/new").write_text("new")
    (union.base / "only/here").write_text("written in place")
    (union.base / "only/here").chmod(0o600)
    (union.base / "replacement").write_text("another file")
    (union.base / "replacement").rename(union.base / "moves/m")
    (union.top / "gone").unlink()
    (union.top / "new").unlink()
    refresh(union.merged)
    assert (union.merged / "gone").read_text() == "gone"
    assert (union.merged / "moves/m").read_text() == "another file"
    assert (union.merged / "only/here").read_text() == "written in place"
    assert not (union.merged / "new").exists()
    union.assert_like_fresh_mount()


# -- the commands -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def one(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounted]:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(programs.registry))
    mounted = Mounted(programs, tmp_path, ())
    mounted.mount(mounted.base)
    yield mounted
    mounted.umount()


def test_ls_and_status_show_the_layers_as_they_are(one: Mounted) -> None:
    one.programs.unionfs("layers", one.merged, "add", "--top", one.top)
    (listed,) = one.programs.ls()
    assert listed["lowers"] == [str(one.top), str(one.base)]
    assert json.loads(one.programs.unionfs("status", "--json", one.merged))["lowers"] == listed["lowers"]
    assert one.programs.unionfs("layers", one.merged, "list").splitlines() == [
        "LAYER     PATH",
        f"upper     {one.upper}",
        f"lower[0]  {one.top}",
        f"lower[1]  {one.base}",
    ]
    assert f"file from lower[1] ({one.base}/d/x)" in one.programs.unionfs("explain", one.merged / "d/x")


def test_new_mount_forgets_what_was_added(one: Mounted) -> None:
    one.programs.unionfs("layers", one.merged, "add", one.top)
    one.umount()
    one.mount(one.base)
    assert one.lowers() == [one.base]


def test_layers_given_by_symbolic_links_and_relative_paths(one: Mounted) -> None:
    link = one.merged.parent / "link"
    link.symlink_to(one.top)
    one.programs.unionfs("layers", one.merged, "add", link)
    assert one.lowers() == [one.base, one.top]
    done = one.programs.run("unionfs", "layers", "merged", "remove", "./top/../link", cwd=one.merged.parent)
    assert (done.status, done.stderr) == (0, "")
    assert one.lowers() == [one.base]


def test_layers_added_by_two_commands_at_once_are_both_there(one: Mounted) -> None:
    added = [build(one.merged.parent / f"added{number}", {f"of{number}": b""}) for number in range(4)]
    commands = [
        subprocess.Popen(["unionfs", "layers", one.merged, "add", path], env=one.programs.environment, stderr=-1)
        for path in added
    ]
    assert [command.communicate(timeout=TIMEOUT)[1] for command in commands] == [b""] * 4
    assert set(one.lowers()) == {one.base, *added}
    assert all((one.merged / f"of{number}").exists() for number in range(4))


def test_layers_that_cannot_be_added_are_refused(one: Mounted, tmp_path: Path) -> None:
    def refusal(layer: Path) -> str:
        return one.programs.refusal("layers", one.merged, "add", layer)

    assert refusal(tmp_path / "no") == f"{tmp_path}/no: lower: no such file or directory; make it, or correct the path"
    assert refusal(one.base / "f") == f"{one.base}/f: lower: not a directory; give a directory"
    assert refusal(one.base) == f"{one.base}: given twice as lower; name each layer once"
    assert "lies inside the lower" in refusal(one.base / "d")
    assert "is both upper and lower" in refusal(one.upper)
    assert "is both mount point and lower" in refusal(one.merged)
    assert "lies inside the mount point" in refusal(one.merged / "d")
    assert "lies inside the lower" in refusal(tmp_path)
    assert one.lowers() == [one.base]


def test_layers_that_cannot_be_removed_are_refused(one: Mounted) -> None:
    def refusal(layer: Path) -> str:
        return one.programs.refusal("layers", one.merged, "remove", layer)

    assert refusal(one.base) == f"{one.base}: is the only lower layer; add another one first, or unmount"
    assert refusal(one.upper) == f"{one.upper}: is the upper layer; only lower layers can be removed"
    assert refusal(one.top) == f"{one.top}: not a layer of this union; unionfs layers {one.merged} list shows them"


@pytest.mark.parametrize("arguments", [("layers", "list"), ("layers", "add", "/"), ("layers", "remove", "/"), ("refresh",)])
def test_what_is_no_union_is_refused(programs: Programs, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command, *rest = arguments
    assert programs.refusal(command, tmp_path, *rest) == f"{tmp_path}: not mounted; unionfs ls shows what is"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((), "Missing command"), (("add",), "Missing argument 'DIRECTORY'"), (("frob",), "No such command 'frob'")],
)
def test_wrong_usage(programs: Programs, tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    assert programs.refusal("layers", tmp_path, *arguments, status=2).startswith(problem)
