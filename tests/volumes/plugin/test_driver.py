"""Volumes of a foreign plugin are volumes like ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.volumes.conftest import killed_at, record_container
from tests.volumes.plugin.conftest import FakeClock, ForeignPlugin, StartPlugin, plugins_with
from unionfs.store.errors import ExistsError, InUseError, NotFoundError, StoreError
from unionfs.store.store import Store
from unionfs.volumes import VolumeManager, open_volumes
from unionfs.volumes.drivers import AwayError
from unionfs.volumes.drivers.plugin.discovery import PluginDirectories
from unionfs.volumes.drivers.plugin.errors import (
    PluginAnswerError,
    PluginError,
    PluginRefusedError,
    PluginSilentError,
    PluginUnreachableError,
)
from unionfs.volumes.filters import Filters, parse_filters
from unionfs.volumes.upkeep import prune, recover

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


@pytest.fixture
def made(volumes: VolumeManager, nas: ForeignPlugin) -> VolumeManager:
    """With a volume ``data`` of the plugin."""
    assert nas.calls == []
    volumes.create("data", "nas", {"size": "10G"})
    return volumes


# -- making and removing --------------------------------------------------------------------------------------------------


def test_volume_is_made_at_the_plugin(made: VolumeManager, nas: ForeignPlugin) -> None:
    volume = made.get("data")
    assert (volume.driver, volume.options) == ("nas", {"size": "10G"})
    assert nas.state()["data"]["options"] == {"size": "10G"}
    assert nas.calls == ["Activate", "Get", "Create"]
    assert made.scope(volume) == "global"
    assert made.mountpoint(volume) is None
    assert made.status(volume) == {"options": {"size": "10G"}, "mounts": {}}
    assert not made.driver_is_ours(volume)


@pytest.mark.usefixtures("made")
def test_volume_that_the_plugin_has_already_is_taken_as_it_is(
    nas: ForeignPlugin, tmp_path: Path, directories: PluginDirectories, clock: FakeClock
) -> None:
    with Store(tmp_path / "another") as store:
        taken = open_volumes(store, plugins_with(directories, clock)).create("data", "nas", {"size": "1G"})
    assert taken.name == "data"
    assert nas.calls.count("Create") == 1
    assert nas.state()["data"]["options"] == {"size": "10G"}


def test_volume_that_the_plugin_refuses_to_make_is_not_there(volumes: VolumeManager, nas: ForeignPlugin) -> None:
    nas.behave(Create={"answer": {"Err": "disk \x1b[1mfull"}})
    with pytest.raises(PluginRefusedError, match=r"volume plugin nas: VolumeDriver.Create failed: disk \\x1b\[1mfull"):
        volumes.create("data", "nas")
    assert volumes.all() == []
    assert os.listdir(volumes.root / "staging") == []


def test_lost_answer_to_create_says_how_to_take_what_may_be_there(hasty: VolumeManager, nas: ForeignPlugin) -> None:
    nas.behave(Create={"works": True, "hang": True})
    with pytest.raises(
        PluginError, match=r"no whole answer to VolumeDriver.Create.*may have made the volume data.*create it again"
    ):
        hasty.create("data", "nas")
    assert hasty.all() == []
    nas.behave()
    assert hasty.create("data", "nas").driver == "nas"
    assert nas.calls.count("Create") == 1


def test_create_needs_a_plugin_that_is_there(volumes: VolumeManager) -> None:
    with pytest.raises(NotFoundError, match="nas: no such volume driver"):
        volumes.create("data", "nas")
    with pytest.raises(StoreError, match="not a name of a volume driver"):
        volumes.create("data", "../nas")


def test_plugin_cannot_take_the_name_of_our_drivers(
    volumes: VolumeManager, nas: ForeignPlugin, directories: PluginDirectories
) -> None:
    (directories.files[0] / "local.spec").write_text(f"unix://{nas.where}")
    volumes.create("data", "local")
    assert nas.calls == []


def test_removed_volume_is_gone_at_the_plugin(made: VolumeManager, nas: ForeignPlugin) -> None:
    made.remove("data")
    assert nas.state() == {}
    assert made.all() == []
    assert os.listdir(made.root / "volumes") == []


def test_volume_in_use_stays_and_the_plugin_hears_nothing(made: VolumeManager, store: Store, nas: ForeignPlugin) -> None:
    record_container(store, "c1", "data")
    with pytest.raises(InUseError, match="container name-c1"):
        made.remove("data")
    assert "Remove" not in nas.calls


def test_volume_that_the_plugin_has_forgotten_is_removed_by_force(
    made: VolumeManager, nas: ForeignPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    (nas.directory / "state").write_text("{}")
    with pytest.raises(PluginError, match=r"no such volume: data.*unionfs volume rm --force data"):
        made.remove("data")
    assert made.get("data")
    made.remove("data", force=True)
    assert made.all() == []
    assert os.listdir(made.root / "volumes") == []
    assert "data: forgotten here only" in caplog.text


def test_volume_of_a_plugin_that_is_no_more_is_removed_by_force(
    made: VolumeManager, nas: ForeignPlugin, directories: PluginDirectories
) -> None:
    nas.kill()
    (directories.files[0] / "nas.spec").unlink()
    with pytest.raises(PluginError, match="there is no plugin of that name"):
        made.remove("data")
    made.remove("data", force=True)
    assert made.all() == []


def test_force_removes_no_volume_that_is_in_use(made: VolumeManager, store: Store, nas: ForeignPlugin) -> None:
    record_container(store, ID, "data")
    made.mount("data", f"container:{ID}")
    with pytest.raises(InUseError):
        made.remove("data", force=True)
    assert "Remove" not in nas.calls


def test_prune_never_removes_volumes_of_plugins(made: VolumeManager, nas: ForeignPlugin) -> None:
    nas.kill()
    assert prune(made, Filters(), named_too=True).names == ()


# -- using ----------------------------------------------------------------------------------------------------------------


def test_every_user_is_told_to_the_plugin_by_its_id(made: VolumeManager, nas: ForeignPlugin) -> None:
    data = made.mount("data", f"container:{ID}")
    assert data == nas.directory / "data/data"
    assert made.mount("data", f"plugin:{OTHER}") == data
    assert made.mount("data", f"plugin:{OTHER}") == data
    assert nas.mounts("data") == {ID: 1, OTHER: 2}
    assert made.mountpoint(made.get("data")) == data
    made.unmount("data", f"plugin:{OTHER}")
    assert nas.mounts("data") == {ID: 1, OTHER: 1}
    made.unmount("data", f"container:{ID}")
    made.unmount("data", f"plugin:{OTHER}")
    assert nas.mounts("data") == {}
    assert made.users("data") == []


def test_unmount_of_a_user_without_a_mount_is_not_told(made: VolumeManager, nas: ForeignPlugin) -> None:
    made.unmount("data", f"container:{ID}")
    assert "Unmount" not in nas.calls


def test_release_unmounts_as_often_as_it_was_mounted(made: VolumeManager, nas: ForeignPlugin) -> None:
    for _ in range(3):
        made.mount("data", f"container:{ID}")
    made.mount("data", f"container:{OTHER}")
    made.release(f"container:{ID}")
    assert nas.mounts("data") == {OTHER: 1}
    assert [mount.user for mount in made.mounts("data")] == [f"container:{OTHER}"]


def test_recover_unmounts_for_users_that_are_gone_alone(made: VolumeManager, nas: ForeignPlugin) -> None:
    made.mount("data", f"container:{ID}")
    made.mount("data", f"container:{OTHER}")
    recover(made, lambda user: user == f"container:{ID}")
    assert nas.mounts("data") == {OTHER: 1}


def test_recover_does_not_wait_for_a_plugin_that_is_down(made: VolumeManager, nas: ForeignPlugin, clock: FakeClock) -> None:
    nas.kill()
    recover(made, lambda _: False)
    assert clock.pauses == []


def test_unmount_that_fails_is_told_and_the_user_is_gone(made: VolumeManager, nas: ForeignPlugin) -> None:
    for _ in range(2):
        made.mount("data", f"container:{ID}")
    nas.behave(Unmount={"answer": {"Err": "device busy"}})
    with pytest.raises(PluginRefusedError, match="device busy"):
        made.release(f"container:{ID}")
    assert made.users("data") == []


def test_unmount_that_does_not_reach_the_plugin_is_made_up_for(
    made: VolumeManager, nas: ForeignPlugin, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        made.mount("data", f"container:{ID}")
    nas.kill()
    with pytest.raises(AwayError, match="Connection refused"):
        made.release(f"container:{ID}")
    assert [mount.count for mount in made.mounts("data")] == [2]
    assert clock.pauses == [1, 2, 4, 8]
    recover(made, lambda _: True)
    assert made.users("data") == [f"container {ID}"]
    assert clock.pauses == [1, 2, 4, 8]  # what is tried again another time holds up nobody
    assert "could not be undone: volume plugin nas" in caplog.text
    nas.start()
    recover(made, lambda _: True)
    assert nas.mounts("data") == {}
    assert made.users("data") == []


def test_unmount_whose_answer_was_lost_is_asked_for_again(made: VolumeManager, nas: ForeignPlugin) -> None:
    made.mount("data", f"container:{ID}")
    nas.behave(Unmount={"works": True, "close": True})
    with pytest.raises(AwayError, match="connection was lost"):
        made.unmount("data", f"container:{ID}")
    assert made.users("data") == [f"container {ID}"]
    nas.behave()
    recover(made, lambda _: True)  # refused: it is done
    assert made.users("data") == []


def test_force_forgets_what_containers_that_are_no_more_had_mounted_at_a_plugin_that_is_no_more(
    made: VolumeManager, store: Store, nas: ForeignPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    record_container(store, OTHER, "data")
    made.mount("data", f"container:{ID}")
    made.mount("data", f"container:{OTHER}")
    nas.kill()
    with pytest.raises(InUseError, match=f"container name-{OTHER}"):
        made.remove("data", force=True)
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM containers")
    with pytest.raises(InUseError, match=f"container {OTHER}"):
        made.remove("data")
    made.remove("data", force=True)
    assert made.all() == []
    assert f"perhaps still mounted for container:{OTHER}" in caplog.text


def test_mount_that_is_refused_leaves_no_user_and_is_not_undone(made: VolumeManager, nas: ForeignPlugin) -> None:
    nas.behave(Mount={"status": 500, "body": '{"Err": "no such disk"}'})
    with pytest.raises(PluginRefusedError, match="no such disk"):
        made.mount("data", f"container:{ID}")
    assert made.users("data") == []
    assert "Unmount" not in nas.calls


def test_mount_that_takes_too_long_is_undone(hasty: VolumeManager, nas: ForeignPlugin) -> None:
    hasty.create("data", "nas")
    nas.behave(Mount={"works": True, "hang": True})
    with pytest.raises(PluginSilentError, match=r"no whole answer to VolumeDriver\.Mount"):
        hasty.mount("data", f"container:{ID}")
    assert nas.calls[-2:] == ["Mount", "Unmount"]
    assert nas.mounts("data") == {}
    assert hasty.users("data") == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Mountpoint": "data/data"}, "an absolute path"),
        ({"Mountpoint": ""}, "the path of a directory"),
        ({}, "the path of a directory"),
        ({"Mountpoint": "/nowhere/at/all"}, "the path of a directory"),
        ({"Mountpoint": "/etc/passwd"}, "the path of a directory"),
        ({"Mountpoint": ["/etc"]}, "an absolute path"),
        ("/etc", "a JSON object"),
    ],
)
def test_mount_that_is_nowhere_is_refused_and_undone(
    made: VolumeManager, nas: ForeignPlugin, answer: object, expected: str
) -> None:
    nas.behave(Mount={"works": True, "answer": answer})
    with pytest.raises(PluginAnswerError, match=f"volume plugin nas: VolumeDriver.Mount: .*the protocol wants {expected}"):
        made.mount("data", f"container:{ID}")
    assert nas.mounts("data") == {}
    assert made.users("data") == []


def test_undoing_that_fails_too_does_not_hide_why(
    made: VolumeManager, nas: ForeignPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    nas.behave(Mount={"works": True, "answer": {"Mountpoint": ""}}, Unmount={"die": True})
    with pytest.raises(PluginAnswerError):
        made.mount("data", f"container:{ID}")
    assert "volume data: perhaps still mounted there: volume plugin nas: the connection was lost" in caplog.text
    nas.wait()


def test_plugin_that_was_restarted_goes_on(made: VolumeManager, nas: ForeignPlugin, clock: FakeClock) -> None:
    made.mount("data", f"container:{ID}")
    nas.kill()
    clock.while_asleep = nas.start
    made.unmount("data", f"container:{ID}")
    assert clock.pauses == [1]
    assert nas.mounts("data") == {}


def test_killed_while_a_volume_is_mounted_and_unmounted(
    store: Store, made: VolumeManager, nas: ForeignPlugin, directories: PluginDirectories
) -> None:
    """Whoever comes next undoes it: nothing stays mounted at the plugin, and no user with us."""

    def act() -> None:
        with Store(store.root) as own:
            volumes = open_volumes(own, plugins_with(directories, FakeClock()))
            volumes.mount("data", f"container:{ID}")
            volumes.unmount("data", f"container:{ID}")

    point = 0
    while killed_at(point, act):
        point += 1
        # An Unmount that was done, but not noted, is done again: the plugin may well refuse it.
        recover(made, lambda user: user == f"container:{ID}")
        assert made.all_mounts() == []
        assert nas.mounts("data") == {}
    assert point > 10


# -- looking at it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [{"status": 500, "body": "broken"}, {"answer": {"Mountpoint": "relative"}}, {"close": True}, {"raw": "nonsense"}]
)
def test_plugin_that_does_not_say_where_a_volume_is_does_not_stop_a_listing(
    made: VolumeManager, nas: ForeignPlugin, how: dict[str, Any], clock: FakeClock
) -> None:
    nas.behave(Path=how, Get=how, Capabilities=how)
    volume = made.get("data")
    assert made.mountpoint(volume) is None
    assert set(made.status(volume)) == {"error"}
    assert made.scope(volume) == "local"
    assert clock.pauses == []


def test_plugin_that_is_gone_does_not_stop_a_listing(made: VolumeManager, directories: PluginDirectories) -> None:
    (directories.files[0] / "nas.spec").unlink()
    volume = made.get("data")
    assert made.mountpoint(volume) is None
    assert "there is no plugin" in str(made.status(volume)["error"])
    assert [each.name for each in made.listed(Filters())] == ["data"]


# -- volumes that only the plugin has ---------------------------------------------------------------------------------------


@pytest.fixture
def theirs(nas: ForeignPlugin, directories: PluginDirectories, clock: FakeClock, tmp_path: Path) -> ForeignPlugin:
    """With a volume ``theirs`` that another engine has made."""
    with Store(tmp_path / "another") as store:
        open_volumes(store, plugins_with(directories, clock)).create("theirs", "nas")
    return nas


@pytest.mark.usefixtures("theirs")
def test_volumes_of_all_plugins_are_discovered(
    volumes: VolumeManager, start_plugin: StartPlugin, directories: PluginDirectories
) -> None:
    second = start_plugin("second")
    (directories.files[1] / "san.spec").write_text(f"unix://{second.where}")
    volumes.create("recorded", "san")
    volumes.create("mine")
    found = volumes.discovered()
    assert [(volume.name, volume.driver) for volume in found] == [("theirs", "nas")]
    assert found[0].created == 1714979289.123456
    assert [volume.name for volume in volumes.listed(Filters())] == ["mine", "recorded", "theirs"]
    assert [volume.name for volume in volumes.listed(parse_filters(["driver=nas"]))] == ["theirs"]
    assert [volume.name for volume in volumes.listed(parse_filters(["dangling=false"]))] == []
    assert {volume.name for volume in volumes.all()} == {"mine", "recorded"}


@pytest.mark.usefixtures("theirs")
def test_plugins_that_do_not_answer_are_named_and_the_others_listed(
    volumes: VolumeManager,
    start_plugin: StartPlugin,
    directories: PluginDirectories,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    liar, networks = start_plugin("liar"), start_plugin("networks")
    liar.behave(List={"answer": {"Volumes": "all"}})
    networks.behave(Activate={"answer": {"Implements": ["NetworkDriver"]}})
    for name, content in (
        ("down", f"unix://{directories.files[1]}/down.sock"),
        ("liar", f"unix://{liar.where}"),
        ("networks", f"unix://{networks.where}"),
        ("wrong", "nonsense"),
    ):
        (directories.files[1] / f"{name}.spec").write_text(content)
    assert [volume.name for volume in volumes.discovered()] == ["theirs"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [next(name for name in ("down", "liar", "networks", "wrong") if name in warning) for warning in warnings] == [
        "down",
        "liar",
        "wrong",
    ]
    assert clock.pauses == []


def test_discovered_volume_is_adopted_when_it_is_found(volumes: VolumeManager, theirs: ForeignPlugin) -> None:
    found = volumes.find("theirs")
    assert (found.driver, found.created, found.anonymous) == ("nas", 1714979289.123456, False)
    assert volumes.get("theirs") == found
    assert volumes.discovered() == []
    assert volumes.mount("theirs", f"container:{ID}") == theirs.directory / "data/theirs"
    volumes.unmount("theirs", f"container:{ID}")
    assert theirs.calls.count("Create") == 1


@pytest.mark.usefixtures("theirs")
def test_discovered_volume_is_adopted_when_it_is_used(volumes: VolumeManager) -> None:
    assert volumes.ensure("theirs").driver == "nas"
    assert volumes.ensure("mine").driver == "local"


@pytest.mark.usefixtures("theirs")
def test_driver_that_is_named_wins_over_a_discovered_volume(volumes: VolumeManager) -> None:
    assert volumes.ensure("theirs", "local").driver == "local"
    with pytest.raises(ExistsError):
        volumes.ensure("theirs", "nas")


def test_volume_that_nobody_has_is_not_found(volumes: VolumeManager, theirs: ForeignPlugin) -> None:
    with pytest.raises(NotFoundError, match="nobodys: no such volume"):
        volumes.find("nobodys")
    assert theirs.bodies("Get")[-1] == '{"Name": "nobodys"}\n'


def test_name_that_is_none_is_asked_of_nobody(volumes: VolumeManager, theirs: ForeignPlugin) -> None:
    before = len(theirs.calls)
    with pytest.raises(StoreError, match="not a name of a volume"):
        volumes.find("../x")
    assert len(theirs.calls) == before


def test_plugin_that_answers_with_another_volume_is_not_believed(
    volumes: VolumeManager, theirs: ForeignPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    theirs.behave(Get={"answer": {"Volume": {"Name": "theirs"}}})
    assert volumes.ensure("fresh").driver == "local"
    assert 'it answered with the volume "theirs"' in caplog.text
    with pytest.raises(PluginAnswerError, match="that of the volume asked for, other"):
        volumes.create("other", "nas")


def test_names_of_a_plugin_that_ours_cannot_have_are_left_out(
    volumes: VolumeManager, theirs: ForeignPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    theirs.behave(List={"answer": {"Volumes": [{"Name": "../../etc"}, {"Name": "good"}, {"Name": "good"}]}})
    assert [volume.name for volume in volumes.discovered()] == ["good"]
    assert "../../etc" in caplog.text


def test_plugin_is_activated_once(volumes: VolumeManager, nas: ForeignPlugin) -> None:
    for name in ("one-1", "two-2"):
        volumes.create(name, "nas")
    assert nas.calls.count("Activate") == 1


def test_unreachable_plugin_is_an_error_for_its_own_volumes(made: VolumeManager, nas: ForeignPlugin) -> None:
    nas.kill()
    with pytest.raises(PluginUnreachableError):
        made.mount("data", f"container:{ID}")
    assert made.users("data") == []
