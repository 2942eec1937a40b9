"""The registry tells living mounts from dead ones, without a mount being made: records are written as a daemon would."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from unionfs.linux.mountinfo import Mount
from unionfs.mounter import registry
from unionfs.mounter.errors import MounterError
from unionfs.mounter.processes import start_time
from unionfs.mounter.registry import Record, Registration, State, registered_mounts, runtime_directory

DEVICE = 77


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """mountinfo shows a union on /merged."""
    mount = Mount(9, 1, DEVICE, "/", Path("/merged"), "rw", "fuse.unionfs", "unionfs", "rw")
    monkeypatch.setattr(registry, "read_mountinfo", lambda: [mount])


def record(**changes: object) -> Record:
    started = start_time(os.getpid())
    assert started is not None
    ours = Record(
        mountpoint="/merged",
        pid=os.getpid(),
        start_time=started,
        device=DEVICE,
        namespace=registry.mount_namespace(),
        lowers=["/l"],
        upper=None,
        work=None,
        own_work=False,
        read_only=True,
        transport="direct",
        data_path="auto",
        source="unionfs",
        log=None,
        mounted_at=1.5,
    )
    return dataclasses.replace(ours, **changes)  # type: ignore[arg-type]


def leave_behind(runtime: Path, dead: Record, name: str = "1-1") -> Path:
    """What a killed daemon leaves."""
    directory = runtime / name
    directory.mkdir(parents=True, mode=0o700)
    (directory / "mount.json").write_text(json.dumps(dataclasses.asdict(dead)))
    return directory


@pytest.mark.usefixtures("mounted")
def test_a_published_record_comes_back() -> None:
    registration = Registration()
    registration.publish(record())
    assert [(found.record, found.state, found.remedy) for found in registered_mounts()] == [(record(), State.MOUNTED, None)]
    registration.remove()
    assert registered_mounts() == []


def test_the_registry_is_for_its_owner_only(runtime: Path) -> None:
    registration = Registration()
    assert [directory.stat().st_mode & 0o777 for directory in (runtime, registration.directory)] == [0o700, 0o700]


def test_a_registry_that_others_can_write_to_is_refused(runtime: Path) -> None:
    runtime.mkdir()
    runtime.chmod(0o777)
    with pytest.raises(MounterError, match="others could change the registry"):
        Registration()


def test_a_mount_that_is_no_longer_there_is_detached_while_its_daemon_lives() -> None:
    Registration().publish(record())
    assert [found.state for found in registered_mounts()] == [State.DETACHED]


def test_a_mount_in_another_namespace_is_elsewhere() -> None:
    Registration().publish(record(namespace="mnt:[1]"))
    assert [found.state for found in registered_mounts()] == [State.ELSEWHERE]


@pytest.mark.usefixtures("mounted")
def test_a_mount_without_its_daemon_is_dead_and_has_a_remedy(runtime: Path) -> None:
    leave_behind(runtime, record(start_time=0))
    assert [(found.state, found.remedy) for found in registered_mounts()] == [(State.DEAD, "unionfs umount /merged")]


def test_what_is_left_of_a_mount_that_is_gone_is_removed(runtime: Path) -> None:
    directory = leave_behind(runtime, record(start_time=0))
    assert registered_mounts() == []
    assert not directory.exists()


@pytest.mark.usefixtures("mounted")
def test_the_device_number_tells_a_mount_from_a_later_one_on_the_same_directory(runtime: Path) -> None:
    leave_behind(runtime, record(start_time=0, device=DEVICE + 1))
    assert registered_mounts() == []


@pytest.mark.usefixtures("mounted")
def test_publishing_forgets_a_dead_mount_with_the_same_device_number(runtime: Path) -> None:
    directory = leave_behind(runtime, record(start_time=0))
    Registration().publish(record())
    assert not directory.exists()


def test_a_starting_daemon_is_left_alone_and_one_killed_at_the_start_is_cleaned_up(runtime: Path) -> None:
    starting = Registration()
    killed = runtime / "1-0"
    killed.mkdir()
    assert registered_mounts() == []
    assert starting.directory.exists()
    assert not killed.exists()


def test_a_damaged_record_hides_no_other_mount(runtime: Path, caplog: pytest.LogCaptureFixture) -> None:
    Registration().publish(record())
    (leave_behind(runtime, record(), f"{os.getpid()}-damaged") / "mount.json").write_text("{")
    assert len(registered_mounts()) == 1
    assert "not a state file of this version" in caplog.text


def test_root_of_the_machine_registers_below_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNIONFS_RUNTIME_DIR")
    monkeypatch.setattr(registry, "in_initial_user_namespace", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert runtime_directory() == Path("/run/unionfs")


@pytest.mark.parametrize(("uid", "initial"), [(1000, True), (0, False)])
def test_others_register_below_their_own_runtime_directory(monkeypatch: pytest.MonkeyPatch, uid: int, initial: bool) -> None:
    monkeypatch.delenv("UNIONFS_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setattr(registry, "in_initial_user_namespace", lambda: initial)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert runtime_directory() == Path("/run/user/1000/unionfs")


def test_without_any_runtime_directory_the_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNIONFS_RUNTIME_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MounterError, match=r"^XDG_RUNTIME_DIR: is not set"):
        runtime_directory()
