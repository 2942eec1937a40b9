"""``unionfs snapshot`` on real mounts: what is open, mapped and running goes on, and the layers are what they should be."""

from __future__ import annotations

import json
import mmap
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.behaviour.test_live_snapshots import Fsx
from tests.behaviour.tree import Snapshot, differences
from tests.cli.conftest import Programs
from tests.mounts import DIRECT, DIRECT_CACHED, KERNEL, PYFUSE3, UnionfsBackend
from tests.overlay.client import build
from tests.rootless.test_user import as_user
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
    assert run("rollback", "--discard", "--force", union.merged, "one") == ""
    assert (union.merged / "f").read_text() == "upper"
    assert run("rm", union.merged, "2") == ""
    assert [item["name"] for item in json.loads(run("ls", "--json", union.upper))] == ["one"]
    assert run("take", union.merged, "two") == "two\n"
    assert run("merge", union.merged, "one", "two") == ""
    assert [item["name"] for item in json.loads(run("ls", "--json", union.merged))] == ["two"]
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


def test_rollback_rm_and_merge_of_a_running_union(union: Mounted, tmp_path: Path) -> None:
    merged = union.merged
    union.change()
    take_snapshot(merged, "one")
    first = union.seen()
    (merged / "f").write_text("second")
    (merged / "new").unlink()
    (merged / "fresh").mkdir()
    (merged / "fresh/in").write_text("in")
    take_snapshot(merged, "two")
    (merged / "last").write_text("last")
    second = union.seen()
    with (merged / "f").open("rb") as reader, (merged / "fresh/in").open("rb") as inner:
        kept = rollback(merged, "one", discard=False)
        assert differences(first, union.seen()) == []
        assert reader.read() == b"second"
        assert inner.read() == b"in"
    assert kept == "3"
    (merged / "after").write_text("after")
    rollback(union.upper, "3", discard=True)
    assert differences(second, union.seen()) == []
    with (merged / "f").open("rb") as reader:
        merge(merged, "one", "two")
        assert differences(second, union.seen()) == []
        assert reader.read() == b"second"
    with pytest.raises(MounterError, match="would lose what is in it"):
        remove_snapshot(merged, "two")
    (merged / "f").write_text("third")
    third = union.seen()
    rollback(merged, "two", discard=False)
    assert rollback(merged, "6", discard=False) == "7"
    remove_snapshot(merged, "7")
    listed = [(item.snapshot.about.name, item.is_below) for item in list_snapshots(merged)]
    assert listed == [("two", True), ("3", True), ("6", True)]
    assert differences(third, union.seen()) == []
    union.umount()
    union.assert_kernel_shows(third, tmp_path / "kernel")
    union.mount()
    assert differences(third, union.seen()) == []
    union.umount()


def test_rollback_is_refused_while_a_file_is_open_for_writing_and_then_forced(union: Mounted) -> None:
    merged = union.merged
    take_snapshot(merged, "one")
    with (merged / "w").open("w+b", buffering=0) as file:
        file.write(b"before")
        with pytest.raises(MounterError, match="w is open for writing"):
            rollback(merged, "one", discard=False)
        assert (merged / "w").read_bytes() == b"before"
        kept = rollback(merged, "one", discard=False, force=True)
        assert not (merged / "w").exists()
        os.pwrite(file.fileno(), b"after!", 0)
        os.fsync(file.fileno())
        assert os.pread(file.fileno(), 6, 0) == b"after!"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert kept is not None
    assert (union.upper.with_name(".upper.snapshots") / kept / "layer/w").read_bytes() == b"before"
    union.umount()


def test_rollback_is_refused_where_something_is_mounted_on_what_would_go(union: Mounted) -> None:
    take_snapshot(union.merged, "one")
    (union.merged / "made").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", union.merged / "made"], check=True)
    try:
        with pytest.raises(MounterError, match="something is mounted on"):
            rollback(union.merged, "one", discard=True)
    finally:
        subprocess.run(["umount", union.merged / "made"], check=True)
    rollback(union.merged, "one", discard=True)
    assert not (union.merged / "made").exists()
    union.umount()


def test_user_without_rights_takes_goes_back_and_merges(tmp_path: Path) -> None:
    script = """
        mkdir lower/d; echo lower >lower/d/f
        unionfs mount -l lower -u upper merged
        echo one >merged/file; echo new >merged/new; rm merged/d/f
        unionfs snapshot merged one
        echo two >merged/file; rm merged/new
        unionfs snapshot merged two
        echo three >merged/file
        unionfs snapshot rollback merged one
        cat merged/file merged/new; ls merged/d
        unionfs snapshot rollback --discard merged 3
        cat merged/file; ls merged
        unionfs snapshot merge merged one two
        cat merged/file; ls merged
        unionfs umount merged
        unionfs mount -l lower -u upper merged
        cat merged/file; ls merged
        unionfs snapshot ls merged | wc -l
        unionfs umount merged
    """
    ended = as_user(tmp_path, script)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.split() == ["one", "two", "3", "one", "new", *["three", "d", "file"] * 3, "3"]


def test_program_that_runs_goes_on_over_a_rollback_and_a_merge(union: Mounted) -> None:
    merged = union.merged
    take_snapshot(merged, "one")
    (merged / "program").write_bytes(Path("/bin/cat").read_bytes())
    (merged / "program").chmod(0o755)
    (merged / "here").mkdir()
    take_snapshot(merged, "two")
    (merged / "f").write_text("later")
    take_snapshot(merged, "three")
    program = subprocess.Popen([merged / "program"], stdin=-1, stdout=-1, cwd=merged / "here")
    merge(merged, "two", "three")
    assert Path(f"/proc/{program.pid}/cwd").resolve() == merged / "here"
    rollback(merged, "one", discard=False)
    assert not (merged / "program").exists()
    assert os.listdir(f"/proc/{program.pid}/cwd") == []
    assert program.communicate(b"still here", 10)[0] == b"still here"
    rollback(merged, "three", discard=False)
    assert (merged / "program").read_bytes() == Path("/bin/cat").read_bytes()
    union.umount()


def test_writers_that_never_pause_do_not_notice_merges(union: Mounted) -> None:
    failures: list[BaseException] = []
    stop = threading.Event()
    writers = [Fsx(union.merged / f"file{number}", number) for number in range(2)]

    def work(writer: Fsx) -> None:
        try:
            while not stop.is_set():
                writer.step()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        take_snapshot(union.merged, "first")
        for number in range(4):
            take_snapshot(union.merged, f"during {number}")
            assert merge(union.merged, "first" if number == 0 else f"during {number - 1}", f"during {number}") == 2
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    for writer in writers:
        writer.close()
    union.umount()
    union.mount()
    for number, writer in enumerate(writers):
        assert (union.merged / f"file{number}").read_bytes() == writer.expected
    assert [item.snapshot.about.name for item in list_snapshots(union.merged)] == ["during 3"]
    union.umount()


def test_readers_see_one_state_or_the_other_while_it_goes_back_and_forth(union: Mounted) -> None:
    merged = union.merged
    texts = {"one": "1" * 10_000, "two": "2" * 20_000}
    for name, text in texts.items():
        (merged / "state").write_text(text)
        (merged / "d" / name).write_text(name)
        take_snapshot(merged, name)
        (merged / "d" / name).unlink()
    rollback(merged, "one", discard=True)
    failures: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                text = (merged / "state").read_text()
                names = set(os.listdir(merged / "d")) - {"x", "sub"}
            except OSError as error:
                failures.append(error)
                return
            if text not in texts.values() or names not in ({"one"}, {"two"}, {"one", "two"}):
                failures.append((text[:1], len(text), names))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            name = ("two", "one")[number % 2]
            rollback(merged, name, discard=True)
            assert (merged / "state").read_text() == texts[name]
            assert (merged / "d" / name).read_text() == name
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    union.umount()
