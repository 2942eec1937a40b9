"""Registry, logs and stores: closed to other users, and none of them is put where another user has said by a link."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.layers import build
from tests.mounts import UNIONFS, MountFailedError, run_unionfs
from tests.programs import output, run
from tests.store.tars import directory, entry, stream, tar_of
from unionfs.mounter.errors import MounterError
from unionfs.mounter.log import log_to_file
from unionfs.mounter.registry import Registration, registered_mounts
from unionfs.store.database import Database
from unionfs.store.leases import adding
from unionfs.store.store import Store

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory as /tmp is: everybody may make names in it."""
    made = tmp_path / "tmp"
    made.mkdir()
    made.chmod(0o1777)
    return made


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that only root may write to."""
    path = tmp_path / "victim"
    path.write_text("as it was")
    path.chmod(0o600)
    return path


def of_nobody(path: Path) -> Path:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path


# -- logs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield logging.getLogger("unionfs")
    for handler in root.handlers[:]:
        handler.close()
    root.handlers[:], root.level = handlers, level


def test_log_is_not_written_through_a_link_of_another_user(shared: Path, victim: Path) -> None:
    (shared / "m.log").symlink_to(victim)
    of_nobody(shared / "m.log")
    with pytest.raises(MounterError, match=r"m\.log: .*; "):
        log_to_file(shared / "m.log")
    assert victim.read_text() == "as it was"


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK])
def test_log_is_not_written_to_what_another_user_has_made(shared: Path, kind: int) -> None:
    os.mknod(shared / "m.log", kind | 0o666)
    of_nobody(shared / "m.log")
    with pytest.raises(MounterError, match=r"m\.log: .*; "):
        log_to_file(shared / "m.log")


def test_log_that_becomes_a_link_while_the_mount_is_in_use_is_not_followed(
    shared: Path, victim: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_file(shared / "m.log")
    (shared / "m.log").symlink_to(victim)
    of_nobody(shared / "m.log")
    logger.warning("trouble")
    assert victim.read_text() == "as it was"
    capsys.readouterr()  # what the handler says of it: there is no other place


def test_log_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, logger: logging.Logger) -> None:
    before = os.umask(0)  # as in the daemon, where each request brings its own
    try:
        log_to_file(tmp_path / "logs/m.log")
        logger.warning("trouble")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "logs/m.log").stat().st_mode) == 0o600
    assert "trouble" in (tmp_path / "logs/m.log").read_text()


def test_log_may_be_a_link_in_a_directory_of_ones_own(tmp_path: Path, logger: logging.Logger) -> None:
    """Such as /dev/stderr."""
    (tmp_path / "m.log").symlink_to(tmp_path / "elsewhere.log")
    log_to_file(tmp_path / "m.log")
    logger.warning("trouble")
    assert "trouble" in (tmp_path / "elsewhere.log").read_text()


def test_mount_whose_log_is_a_trap_is_refused(tmp_path: Path, shared: Path, victim: Path) -> None:
    for name in ("lower", "merged"):
        build(tmp_path / name, {})
    (shared / "m.log").symlink_to(victim)
    of_nobody(shared / "m.log")
    with pytest.raises(MountFailedError, match=r"m\.log: "):
        run_unionfs(["mount", "-l", tmp_path / "lower", "-o", f"log={shared}/m.log", tmp_path / "merged"])


# -- registry -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(shared / "unionfs"))
    return shared / "unionfs"


def test_registry_that_another_user_has_made_is_refused(runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    of_nobody(runtime)
    for use in (Registration, registered_mounts):
        with pytest.raises(MounterError, match=r"others could change the registry of mounts; .*chown"):
            use()


def test_record_that_another_user_has_put_there_is_not_believed(runtime: Path, tmp_path: Path) -> None:
    # unionfs umount and ls would take its word for what is mounted where, and remove what it calls theirs.
    forged = runtime / f"{os.getpid()}-1"
    forged.mkdir(parents=True)
    (forged / "mount.json").write_text(json.dumps({"mountpoint": "/"}))
    for path in (runtime, forged):
        of_nobody(path)
    (tmp_path / "m").mkdir()
    ended = run([UNIONFS, "ls"], status=1)
    assert "others could change the registry" in ended.stderr
    run([UNIONFS, "umount", tmp_path / "m"], status=1)
    assert forged.is_dir()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_registry_that_others_may_write_to_is_refused(runtime: Path, mode: int) -> None:
    runtime.mkdir()
    runtime.chmod(mode)
    for use in (Registration, registered_mounts):
        with pytest.raises(MounterError, match="others could change"):
            use()


def test_registry_is_not_reached_through_a_link_of_another_user(runtime: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    (mine / "1-0").mkdir()
    runtime.symlink_to(mine)
    of_nobody(runtime)
    for use in (Registration, registered_mounts):
        with pytest.raises(MounterError, match="others could change"):
            use()
    assert os.listdir(mine) == ["1-0"]


def test_registry_that_is_not_there_yet_has_no_mounts(runtime: Path) -> None:
    assert registered_mounts() == []
    assert not runtime.exists()


# -- stores ---------------------------------------------------------------------------------------------------------------


def reachable(root: Path, paths: list[Path]) -> list[str]:
    """Which of ``paths`` another user can open or execute, knowing what they are called."""
    program = """
        import json, os, sys
        paths = json.load(sys.stdin)
        os.setgroups([]); os.setgid(65534)
        os.chdir(sys.argv[1])
        os.setuid(65534)
        print(json.dumps([path for path in paths if any(os.access(path, mode) for mode in (os.R_OK, os.W_OK, os.X_OK))]))
    """
    names = json.dumps([str(path.relative_to(root)) for path in paths])
    found: list[str] = json.loads(output([sys.executable, "-c", textwrap.dedent(program), root], stdin=names))
    return found


@pytest.fixture
def open_above(tmp_path: Path) -> None:
    """The test's directory as /var/lib is: everybody may pass."""
    tmp_path.chmod(0o755)


@pytest.mark.usefixtures("open_above")
def test_nothing_that_layers_or_snapshots_hold_can_be_reached_by_others(tmp_path: Path) -> None:
    """Set-id programs of any age, and files that somebody in a container made so: not by a path, not by a guessed one."""
    before = os.umask(0)
    try:
        with Store(tmp_path / "store") as store:
            program = entry("sh", b"#!/bin/sh\n", mode=0o4755)
            with adding(store.root):
                layer = store.layers.add_from_tar(stream(tar_of(directory("d"), program)))
            store.snapshots.prepare("container", store.snapshots.ensure_image([layer.diff_id]))
            for place in (tmp_path / "store/snapshots").rglob("*"):
                if place.is_dir() and not place.is_symlink():
                    (place / "planted").write_bytes(b"#!/bin/sh\n")
                    (place / "planted").chmod(0o4755)
            root = tmp_path / "store"
            everything = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
            assert any(path.name == "planted" for path in everything)
            assert any(path.name == "sh" for path in everything)
            assert reachable(root, everything) == []
    finally:
        os.umask(before)


@pytest.mark.usefixtures("open_above")
def test_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It has the environment of containers and the options of volumes: passwords, as people use them."""
    root = tmp_path / "store"
    with Store(root) as store:
        store.database.read("SELECT 1")
        for path in root.glob("store.db*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    (root / "store.db").chmod(0o644)  # as an older unionfs has made it
    with Store(root):
        assert stat.S_IMODE((root / "store.db").stat().st_mode) == 0o600


def test_two_opens_of_a_database_keep_their_locks(tmp_path: Path) -> None:
    """To close a descriptor of it would drop all locks that the process has on it (sqlite.org/howtocorrupt.html)."""
    (tmp_path / "store").mkdir()
    with contextlib.closing(Database(tmp_path / "store")) as database, database.transaction():
        database.path.chmod(0o644)
        database._make_private()
        program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        ended = run([sys.executable, "-c", program, tmp_path / "store/store.db"], status=1)
        assert "database is locked" in ended.stderr
