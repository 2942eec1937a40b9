"""``unionfs snapshot`` on real mounts: what is open, mapped and running goes on, and the layers are what they should be."""

from __future__ import annotations

import json
import mmap
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.behaviour.tree import Snapshot, differences
from tests.cli.conftest import Programs
from tests.mounts import DIRECT, DIRECT_CACHED, KERNEL, PYFUSE3, UnionfsBackend
from tests.overlay.client import build
from unionfs.cli.snapshot import snapshot as command
from unionfs.mounter.errors import MounterError
from unionfs.mounter.snapshots import list_snapshots, merge, remove_snapshot, rollback, snapshot_changes, take_snapshot


class Mounted:
    """A union of one lower and an upper that grows snapshots."""

    def __init__(self, programs: Programs, directory: Path, backend: UnionfsBackend) -> None:
        self.programs, self.backend = programs, backend
        self.lower = build(
            directory / "lower", {"f": b"lower", "gone": b"g", "d/x": b"x", "d/sub/s": b"s", "moves/m": b"m", "opaque/o": b"o"}
        )
        self.upper, self.merged = build(directory / "upper", {}), build(directory / "merged", {})
        self.mount()

    def mount(self) -> None:
        self.programs.unionfs("mount", *self.backend.arguments, "-l", self.lower, "-u", self.upper, self.merged)

    def umount(self) -> None:
        self.programs.unionfs("umount", self.merged)

    def seen(self) -> Snapshot:
        return Snapshot.of(self.merged)

    def change(self) -> None:
        """Something of each kind that an upper can hold."""
        merged = self.merged
        (merged / "f").write_text("upper")
        (merged / "gone").unlink()
        (merged / "new").write_text("new")
        (merged / "moves").rename(merged / "moved")
        (merged / "opaque/o").unlink()
        (merged / "opaque").rmdir()
        (merged / "opaque").mkdir()
        (merged / "d/x").chmod(0o600)
        (merged / "d/link").symlink_to("x")
        os.link(merged / "new", merged / "d/second")

    def assert_kernel_shows(self, seen: Snapshot, directory: Path) -> None:
        """The kernel's OverlayFS, told of the same layers."""
        chain = [item.snapshot for item in list_snapshots(self.upper) if item.is_below]
        lowers = [*(item.layer for item in reversed(chain)), self.lower]
        oracle = build(directory, {})
        KERNEL.mount([self.upper, *lowers], None, None, oracle, ("redirect_dir=follow",))
        shown = Snapshot.of(oracle)
        KERNEL.umount(oracle)
        assert differences(seen, shown) == []


@pytest.fixture(params=[DIRECT, DIRECT_CACHED, PYFUSE3], ids=lambda backend: backend.name)
def union(request: pytest.FixtureRequest, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(programs.registry))
    return Mounted(programs, tmp_path, request.param)


def test_nothing_that_is_seen_changes_and_the_kernel_shows_the_same(union: Mounted, tmp_path: Path) -> None:
    union.change()
    before = union.seen()
    inos = {path: (union.merged / path).lstat().st_ino for path in ("f", "d", "d/x", "moved", "moved/m", "new", "opaque")}
    taken = take_snapshot(union.merged, "first")
    assert taken.name == "first"
    assert taken.consistent
    assert os.listdir(union.upper) == []
    assert differences(before, union.seen()) == []
    (union.merged / "f").write_text("later")
    (union.merged / "new").unlink()
    (union.merged / "moved").rename(union.merged / "again")
    (union.merged / "d/x").chmod(0o640)
    after = union.seen()
    take_snapshot(union.merged, None)
    assert differences(after, union.seen()) == []
    assert (union.merged / "f").stat().st_ino == inos["f"]
    assert (union.merged / "again/m").stat().st_ino == inos["moved/m"]
    (union.merged / "d/sub/s").write_text("third")
    after = union.seen()
    union.umount()
    union.assert_kernel_shows(after, tmp_path / "kernel")
    union.mount()
    assert differences(after, union.seen()) == []
    assert (union.merged / "f").stat().st_ino == inos["f"]
    assert (union.merged / "d/x").stat().st_ino == inos["d/x"]
    union.umount()


def test_open_files_mappings_and_programs_go_on(union: Mounted) -> None:
    merged = union.merged
    (merged / "program").write_bytes(Path("/bin/cat").read_bytes())
    (merged / "program").chmod(0o755)
    (merged / "w").write_bytes(b"0" * 8192)
    (merged / "unlinked").write_bytes(b"u")
    program = subprocess.Popen([merged / "program"], stdin=-1, stdout=-1, cwd=merged / "d")
    with (merged / "w").open("r+b") as file, (merged / "unlinked").open("r+b") as unlinked, (merged / "f").open("rb") as reader:
        (merged / "unlinked").unlink()
        with mmap.mmap(file.fileno(), 8192) as mapped:
            mapped[0] = ord("1")
            layer = Path(take_snapshot(merged, None).layer)
            mapped[1] = ord("2")
            os.pwrite(file.fileno(), b"3", 4096)
            unlinked.write(b"U")
            unlinked.flush()
            assert mapped[:3] == b"120"
            assert mapped[4096] == ord("3")
            mapped.flush()
        assert reader.read() == b"lower"
        assert os.pread(unlinked.fileno(), 1, 0) == b"U"
    assert program.communicate(b"still here", 10)[0] == b"still here"
    assert (merged / "w").read_bytes()[:2] == b"12"
    assert (layer / "w").read_bytes() == b"1" + b"0" * 8191
    union.umount()
    assert (union.upper / "w").read_bytes()[:2] == b"12"


def test_snapshots_under_a_sqlite_writer_lose_nothing(union: Mounted, tmp_path: Path) -> None:
    for journal in ("WAL", "DELETE"):
        name = f"{journal}.db"
        script = (
            "import sqlite3, sys\n"  # noqa: S608
            f"db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA journal_mode={journal}')\n"
            "db.execute('CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)'); db.commit()\n"
            "for n in range(150):\n"
            "    db.execute('INSERT INTO t VALUES (?, ?)', (n, 'x' * 500)); db.commit(); print(n, flush=True)\n"
        )
        with subprocess.Popen([sys.executable, "-c", script, union.merged / name], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            layers = []
            for line in writer.stdout:
                if int(line) % 30 == 29:
                    taken = take_snapshot(union.merged, None)
                    layers.append((int(line), Path(taken.layer), taken.consistent))
        assert writer.returncode == 0
        with sqlite3.connect(union.merged / name) as db:
            assert db.execute("SELECT count(*) FROM t").fetchone() == (150,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
        for written, layer, is_consistent in layers:
            assert is_consistent
            # As the union showed it then; the file may be in an older layer.
            copy = tmp_path / f"{journal}-{written}"
            copy.mkdir()
            chain = [item.snapshot.layer for item in list_snapshots(union.upper)]
            for file in (name, f"{name}-wal", f"{name}-journal"):
                for there in reversed(chain[: chain.index(layer) + 1]):
                    if (there / file).is_char_device():
                        break
                    if (there / file).exists():
                        (copy / file).write_bytes((there / file).read_bytes())
                        break
            with sqlite3.connect(copy / name) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert db.execute("SELECT count(*) FROM t").fetchone()[0] >= written + 1
            db.close()
    union.umount()


def test_diff_rollback_rm_and_merge(union: Mounted) -> None:
    union.change()
    take_snapshot(union.merged, "one")
    first = union.seen()
    (union.merged / "f").write_text("second")
    (union.merged / "new").unlink()
    (union.merged / "d/sub/s").unlink()
    (union.merged / "fresh/in").parent.mkdir()
    (union.merged / "fresh/in").write_text("in")
    take_snapshot(union.merged, "two")
    assert [(change.kind, change.path) for change in snapshot_changes(union.merged, "one", "two")] == [
        ("M", b"/f"),
        ("A", b"/fresh"),
        ("A", b"/fresh/in"),
        ("D", b"/new"),
        ("D", b"/d/sub/s"),
    ]
    (union.merged / "last").write_text("last")
    assert [(change.kind, change.path) for change in snapshot_changes(union.merged, "two", None)] == [("A", b"/last")]
    with pytest.raises(MounterError, match="is mounted"):
        rollback(union.merged, "one", discard=False)
    union.umount()
    with pytest.raises(MounterError, match="would lose what is in it"):
        remove_snapshot(union.upper, "one")
    kept = rollback(union.upper, "one", discard=False)
    assert kept is not None
    union.mount()
    assert differences(first, union.seen()) == []
    union.umount()
    rollback(union.upper, kept, discard=True)
    union.mount()
    assert (union.merged / "last").read_text() == "last"
    (union.merged / "last").unlink()
    second = union.seen()
    union.umount()
    merge(union.upper, "one", "two")
    assert [item.snapshot.about.name for item in list_snapshots(union.upper)] == ["two", kept]
    union.mount()
    assert differences(second, union.seen()) == []
    union.umount()


def test_command_lists_and_compares(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(programs.registry))
    union = Mounted(programs, tmp_path, DIRECT)
    (union.merged / "f").write_text("upper")

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    assert run(union.merged, "one") == "one\n"
    assert run("take", union.merged) == "2\n"
    listed = json.loads(run("ls", "--json", union.merged))
    assert [(item["number"], item["name"], item["below"], item["in_use"]) for item in listed] == [
        (1, "one", [], True),
        (2, "2", [1], True),
    ]
    (union.merged / "f").unlink()
    assert run("diff", union.merged, "one") == "D /f\n"
    union.umount()
    with pytest.raises(MounterError, match="no snapshot of that name"):
        run("rm", union.upper, "three")


def test_check_looks_at_the_snapshots_of_the_upper_too(union: Mounted) -> None:
    (union.merged / "early").mkdir()
    take_snapshot(union.merged, "one")
    (union.merged / "early").rename(union.merged / "late")
    union.umount()
    # Without the snapshot the redirect would lead nowhere.
    assert union.programs.unionfs("check", "-l", union.lower, union.upper) == f"{union.upper}: clean\n"
