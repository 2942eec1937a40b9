"""What each call answers, and what it does to the volumes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import started, wait_until
from unionfs.adapters.volume_plugin.calls import Calls, MalformedCallError, UnknownCallError, our_volumes
from unionfs.adapters.volume_plugin.peers import PODMAN_ID
from unionfs.mounter.errors import MounterError
from unionfs.mounter.processes import start_time
from unionfs.store.errors import ExistsError, InUseError, NotFoundError, StoreError
from unionfs.store.store import Store
from unionfs.volumes import Filling, Peer, Volume, VolumeManager
from unionfs.volumes.rows import insert

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}


def running() -> Peer:
    """A peer that runs: this process."""
    started_at = start_time(os.getpid())
    assert started_at is not None
    return Peer(os.getpid(), started_at)


HERE = running()
DEAD = Peer(HERE.pid, HERE.started - 1)
"""A process that had our ID before us."""


class Engine:
    """Somebody who calls."""

    def __init__(self, volumes: VolumeManager, peer: Peer | None = HERE) -> None:
        self._calls = Calls(volumes, peer)

    def __call__(self, call: str, **fields: object) -> Mapping[str, Any]:
        return self._calls.answer(f"VolumeDriver.{call}", fields)


@pytest.fixture
def engine(volumes: VolumeManager) -> Engine:
    return Engine(volumes)


# -- the protocol -----------------------------------------------------------------------------------------------------------


def test_activation_says_that_it_is_a_volume_driver(volumes: VolumeManager) -> None:
    assert Calls(volumes, None).answer("Plugin.Activate", {}) == {"Implements": ["VolumeDriver"]}


def test_volumes_are_on_this_machine_only(engine: Engine) -> None:
    assert engine("Capabilities") == {"Capabilities": {"Scope": "local"}}


def test_unknown_call(volumes: VolumeManager) -> None:
    with pytest.raises(UnknownCallError):
        Calls(volumes, None).answer("VolumeDriver.Snapshot", {})


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("Get", {}),
        ("Get", {"Name": 1}),
        ("Get", {"Name": None}),
        ("Get", {"Name": "a\0b"}),
        ("Create", {"Name": "data", "Opts": []}),
        ("Create", {"Name": "data", "Opts": {"type": 1}}),
        ("Create", {"Name": "data", "Opts": {"type": "\ud800"}}),
        ("Mount", {"Name": "data"}),
        ("Mount", {"Name": "data", "ID": ""}),
        ("Mount", {"Name": "data", "ID": "a\nb"}),
        ("Mount", {"Name": "data", "ID": "a" * 257}),
        ("Unmount", {"Name": "data", "ID": ["a"]}),
    ],
)
def test_field_of_a_wrong_type_is_no_call(engine: Engine, volumes: VolumeManager, call: str, fields: dict[str, object]) -> None:
    with pytest.raises(MalformedCallError):
        engine(call, **fields)
    assert volumes.all() == []


@pytest.mark.parametrize("call", ["Get", "Path", "Remove", "Mount", "Unmount", "Create"])
@pytest.mark.parametrize("name", ["..", "a/b", "", "x", "-ab"])
def test_what_is_no_name_of_a_volume_is_refused(engine: Engine, call: str, name: str) -> None:
    with pytest.raises(StoreError, match="not a name of a volume"):
        engine(call, Name=name, ID="1")


@pytest.mark.parametrize("call", ["Get", "Path", "Remove", "Mount", "Unmount"])
def test_absent_volume_is_an_error(engine: Engine, call: str) -> None:
    with pytest.raises(NotFoundError, match="no such volume"):
        engine(call, Name="absent", ID="1")


# -- volumes ----------------------------------------------------------------------------------------------------------------


def test_volume_without_options_is_a_directory(engine: Engine, volumes: VolumeManager) -> None:
    assert engine("Create", Name="data", Opts=None) == {"Err": ""}
    data = volumes.directory("data") / "_data"
    assert data.is_dir()
    answer = engine("Get", Name="data")
    assert answer["Err"] == ""
    assert answer["Volume"]["Name"] == "data"
    assert answer["Volume"]["Mountpoint"] == str(data)
    assert answer["Volume"]["Status"] == {"driver": "local"}
    assert answer["Volume"]["CreatedAt"].endswith("+00:00")
    assert engine("Path", Name="data") == {"Mountpoint": str(data), "Err": ""}
    assert engine("List") == {"Volumes": [{"Name": "data", "Mountpoint": str(data)}], "Err": ""}
    assert engine("Remove", Name="data") == {"Err": ""}
    assert volumes.all() == []
    assert not data.exists()


def test_option_driver_chooses_among_our_drivers(engine: Engine, volumes: VolumeManager, tmp_path: Path) -> None:
    engine("Create", Name="data", Opts={"driver": "overlay", "lower": str(tmp_path)})
    volume = volumes.get("data")
    assert (volume.driver, volume.options) == ("overlay", {"lower": str(tmp_path)})
    assert engine("Path", Name="data")["Mountpoint"] == ""  # not mounted yet


def test_foreign_plugins_are_no_drivers_of_ours(engine: Engine) -> None:
    with pytest.raises(NotFoundError, match="no such volume driver"):
        engine("Create", Name="data", Opts={"driver": "unionfs"})


def test_wrong_option_makes_nothing(engine: Engine, volumes: VolumeManager) -> None:
    with pytest.raises(StoreError, match="not an option of the driver local"):
        engine("Create", Name="data", Opts={"label": "x=1"})
    assert volumes.all() == []


def test_volume_that_is_there_may_be_made_again(engine: Engine, volumes: VolumeManager) -> None:
    for _ in range(2):
        engine("Create", Name="data", Opts=TMPFS)
        engine("Create", Name="data", Opts={})
    with pytest.raises(ExistsError, match="other options"):
        engine("Create", Name="data", Opts={**TMPFS, "o": "size=2m"})
    assert volumes.get("data").options == TMPFS


def test_words_that_podman_repeats_are_no_options(engine: Engine, volumes: VolumeManager) -> None:
    options = {**TMPFS, "o": "size=1m,uid=1,noatime"}
    engine("Create", Name="data", Opts={**options, "SIZE": "1m", "UID": "1"})
    assert volumes.get("data").options == options
    with pytest.raises(StoreError, match="GID"):
        engine("Create", Name="other", Opts={**options, "GID": "1"})


def test_volumes_of_foreign_plugins_are_left_to_these(store: Store, engine: Engine) -> None:
    volume = Volume("foreign", "nas", options={}, labels={}, anonymous=False, filling=Filling.NEW, created=0.0)
    with store.database.transaction() as connection:
        insert(connection, volume)
    engine("Create", Name="data")
    assert [each["Name"] for each in engine("List")["Volumes"]] == ["data"]


# -- uses -------------------------------------------------------------------------------------------------------------------


def test_mounts_under_one_id_are_counted(engine: Engine, volumes: VolumeManager) -> None:
    engine("Create", Name="fast", Opts=TMPFS)
    data = str(volumes.directory("fast") / "_data")
    # A container, and twice a copy into it, under the ID of the container.
    for _ in range(3):
        assert engine("Mount", Name="fast", ID="1") == {"Mountpoint": data, "Err": ""}
    assert [(use.user, use.count, use.peer) for use in volumes.mounts("fast")] == [("plugin:1", 3, HERE)]
    for _ in range(2):
        engine("Unmount", Name="fast", ID="1")
        assert os.path.ismount(data)
    engine("Unmount", Name="fast", ID="1")
    assert not os.path.ismount(data)
    assert volumes.mounts("fast") == []


def test_unmount_of_an_unknown_id_is_no_error_and_unmounts_nothing(engine: Engine) -> None:
    engine("Create", Name="fast", Opts=TMPFS)
    data = engine("Mount", Name="fast", ID="1")["Mountpoint"]
    assert engine("Unmount", Name="fast", ID="2") == {"Err": ""}
    assert os.path.ismount(data)
    engine("Unmount", Name="fast", ID="1")


def test_engine_that_has_ended_unmounts_nothing_by_that(volumes: VolumeManager) -> None:
    dead, living = Engine(volumes, DEAD), Engine(volumes, HERE)
    living("Create", Name="fast", Opts=TMPFS)
    data = dead("Mount", Name="fast", ID=PODMAN_ID)["Mountpoint"]
    living("Mount", Name="fast", ID="1")
    living("Unmount", Name="fast", ID="1")
    assert living("Get", Name="fast")["Volume"]["Mountpoint"] == data
    assert os.path.ismount(data)
    dead("Unmount", Name="fast", ID=PODMAN_ID)
    assert not os.path.ismount(data)


@pytest.mark.parametrize("peer", [HERE, DEAD])
def test_engine_that_asks_to_remove_has_lost_its_unmounts(volumes: VolumeManager, peer: Peer) -> None:
    before, now = Engine(volumes, peer), Engine(volumes, HERE)
    now("Create", Name="fast", Opts=TMPFS)
    data = before("Mount", Name="fast", ID="1")["Mountpoint"]
    before("Mount", Name="fast", ID="1")
    now("Remove", Name="fast")
    assert not Path(data).exists()
    assert volumes.all() == []


def test_use_of_another_engine_that_runs_keeps_the_volume(volumes: VolumeManager) -> None:
    with started(["sleep", "600"]) as other:
        at = start_time(other.pid)
        assert at is not None
        one, another = Engine(volumes, Peer(other.pid, at)), Engine(volumes, HERE)
        one("Create", Name="data")
        one("Mount", Name="data", ID="1")
        with pytest.raises(InUseError, match="plugin 1"):
            another("Remove", Name="data")
    assert len(volumes.mounts("data")) == 1


def test_use_of_podman_keeps_the_volume_though_no_podman_runs(volumes: VolumeManager) -> None:
    podman, docker = Engine(volumes, DEAD), Engine(volumes, HERE)
    podman("Create", Name="data")
    podman("Mount", Name="data", ID=PODMAN_ID)
    with pytest.raises(InUseError, match=f"plugin {PODMAN_ID}"):
        docker("Remove", Name="data")
    podman("Unmount", Name="data", ID=PODMAN_ID)
    docker("Remove", Name="data")


def test_use_of_our_own_container_keeps_the_volume(volumes: VolumeManager) -> None:
    engine = Engine(volumes)
    engine("Create", Name="data")
    volumes.mount("data", "container:1")
    with pytest.raises(InUseError, match="container 1"):
        engine("Remove", Name="data")


@pytest.mark.parametrize("options", [{}, TMPFS], ids=["directory", "mount"])
def test_container_that_outlived_its_engine_keeps_the_volume(volumes: VolumeManager, options: dict[str, str]) -> None:
    before, now = Engine(volumes, DEAD), Engine(volumes, HERE)
    now("Create", Name="data", Opts=options)
    data = Path(before("Mount", Name="data", ID="1")["Mountpoint"])
    (data / "file").write_text("kept")
    script = f"mkdir -p {data.parent}/c && mount --bind {data} {data.parent}/c && echo ready && exec sleep 600"
    container = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
    with started(container, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(InUseError, match="plugin 1"):
            now("Remove", Name="data")
        assert (data / "file").read_text() == "kept"
        process.kill()
        process.wait()
    wait_until(lambda: _removed(now), "the removal")
    assert volumes.all() == []


def _removed(engine: Engine) -> bool:
    """The mounts of a namespace go a moment after its last process."""
    try:
        engine("Remove", Name="data")
    except InUseError:
        return False
    return True


def test_engine_in_another_mount_namespace_gets_no_mount_that_it_does_not_see(volumes: VolumeManager) -> None:
    Engine(volumes)("Create", Name="fast", Opts=TMPFS)
    Engine(volumes)("Create", Name="data")
    isolated = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 600"]
    with started(isolated, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        at = start_time(process.pid)
        assert at is not None
        engine = Engine(volumes, Peer(process.pid, at))
        with pytest.raises(StoreError, match="does not see what is mounted there"):
            engine("Mount", Name="fast", ID="1")
        assert volumes.mounts("fast") == []
        assert engine("Path", Name="fast")["Mountpoint"] == ""
        # A directory it sees as everybody does.
        assert engine("Mount", Name="data", ID="1")["Err"] == ""


# -- anything ---------------------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(["data", "fast", "..", "absent"]) | _JSON
_OPTIONS = (
    st.dictionaries(st.sampled_from(["type", "device", "o", "driver", "lower", "size", "SIZE"]), st.text(max_size=8)) | _JSON
)
_CALLS = st.sampled_from(["Create", "Get", "List", "Path", "Mount", "Unmount", "Remove", "Capabilities"])


@given(st.lists(st.tuples(_CALLS, _NAMES, _OPTIONS, st.just("1") | _JSON), max_size=5))
@settings(max_examples=50)
def test_whatever_is_asked_is_answered_or_refused(calls: list[tuple[str, object, object, object]]) -> None:
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory)) as store:
        engine = Engine(our_volumes(store))
        engine("Create", Name="data")
        for call, name, options, identifier in calls:
            with contextlib.suppress(MalformedCallError, MounterError):
                assert json.dumps(engine(call, Name=name, Opts=options, ID=identifier))
        engine("List")
        assert not any(os.path.ismount(path) for path in (Path(directory) / "volumes").glob("*/_data"))
