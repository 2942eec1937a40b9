"""Our own files, damaged: of mounts, containers, snapshots.  One bad file is no reason for a command to fail on the others."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from tests.fuzz.bounds import bounded, outcome
from tests.fuzz.effort import effort
from tests.fuzz.strategies import NESTED, texts_of
from unionfs.containers import container_log, status
from unionfs.containers.container_log import read_log
from unionfs.containers.status import read_status
from unionfs.mounter.processes import start_time
from unionfs.mounter.registry import Record, State, registered_mounts
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import About, Snapshots
from unionfs.store.errors import CorruptError

RECORD = Record(
    mountpoint="/nowhere",
    pid=1,
    start_time=1,
    device=77,
    namespace="mnt:[1]",
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


def record(**changes: object) -> dict[str, Any]:
    return dataclasses.asdict(dataclasses.replace(RECORD, **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runtime(new_directory: Callable[..., Path]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield lambda: _runtime(new_directory(), patch)


def _runtime(directory: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.setenv("UNIONFS_RUNTIME_DIR", str(directory))
    return directory


def running() -> dict[str, Any]:
    """A mount in another mount namespace whose daemon is this process: listed, whatever is mounted here."""
    return record(pid=os.getpid(), start_time=start_time(os.getpid()))


@effort(120)
@given(damaged=texts_of(record()))
@example(NESTED)
@example(json.dumps(record(mounted_at="x")).encode())
@example(json.dumps(record(mountpoint=5)).encode())
@example(json.dumps(record(pid="1")).encode())
@example(json.dumps(record(pid=10**30)).encode())
@example(json.dumps(record(mountpoint="a\0b")).encode())
def test_damaged_record_hides_no_other_mount(runtime: Callable[[], Path], damaged: bytes) -> None:
    directory = runtime()
    for name, content in (("damaged", damaged), ("sound", json.dumps(running()).encode())):
        (directory / name).mkdir()
        (directory / name / "mount.json").write_bytes(content)
    with bounded():
        found = {mount.directory.name: mount for mount in registered_mounts()}
    assert found["sound"].state is State.ELSEWHERE
    for mount in found.values():
        assert isinstance(mount.record.mountpoint, str)
        assert isinstance(mount.record.mounted_at, int | float)


@effort(120)
@given(damaged=texts_of(dataclasses.asdict(status.Status("exited", started=1.5, finished=2.5, exit_code=0))))
@example(NESTED)
@example(b'{"state": "dancing"}')
@example(b'{"state": "exited", "exit_code": "0"}')
@example(b'{"pid": true}')
def test_status_of_a_container_is_whole_or_corrupt(new_directory: Callable[..., Path], damaged: bytes) -> None:
    directory = new_directory()
    (directory / status.NAME).write_bytes(damaged)
    found = outcome(lambda: read_status(directory), CorruptError)
    if isinstance(found, CorruptError):
        return
    assert found.state in ("created", "running", "exited")
    for name in ("pid", "pid_started", "exit_code"):
        assert isinstance(getattr(found, name), int | None)
    for name in ("started", "finished"):
        assert isinstance(getattr(found, name), int | float | None)
    assert isinstance(found.error, str | None)


@effort(120)
@given(damaged=texts_of({"log": "text\n", "stream": "stdout", "time": "2024-05-06T07:08:09.5Z"}))
@example(NESTED)
@example(b'{"log": "\\ud800", "stream": "stdout", "time": ""}')
def test_log_of_a_container_is_read_or_corrupt(new_directory: Callable[..., Path], damaged: bytes) -> None:
    directory = new_directory()
    sound = b'{"log": "first\\n", "stream": "stderr", "time": "2024-05-06T07:08:09Z"}\n'
    (directory / container_log.NAME).write_bytes(sound + damaged + b"\n" + sound)
    entries = []
    try:
        with bounded():
            for entry in read_log(directory):
                entries.append(entry)
    except CorruptError:
        assert entries[0].data == b"first\n"
        return
    assert entries[0] == entries[-1]
    assert all(isinstance(entry.data, bytes) and isinstance(entry.stream + entry.time, str) for entry in entries)


@effort(80)
@given(damaged=texts_of(dataclasses.asdict(About("one", 1.5, ["/l"]))))
@example(NESTED)
@example(b'{"name": 5, "created": "x", "lowers": null}')
def test_snapshot_with_a_damaged_description_is_an_error_that_names_it(
    new_directory: Callable[..., Path], damaged: bytes
) -> None:
    directory = new_directory()
    (directory / "upper").mkdir()
    (directory / ".upper.snapshots/1/layer").mkdir(parents=True)
    (directory / ".upper.snapshots/1/about").write_bytes(damaged)
    found = outcome(lambda: Snapshots(directory / "upper", PrivateXattrs()).get(1), OSError)
    if isinstance(found, OSError):
        assert found.errno is not None
        assert str(directory) in str(found.filename)
    else:
        assert isinstance(found.about.name, str)
        assert isinstance(found.about.created, int | float)
