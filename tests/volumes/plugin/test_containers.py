"""Real containers with volumes of a foreign plugin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.containers.conftest import engine
from tests.containers.engine import Engine, kill
from tests.volumes.plugin.conftest import ForeignPlugin
from unionfs.volumes.drivers.plugin.discovery import DIRECTORIES_VARIABLE, PluginDirectories

__all__ = ["engine"]

WAITS = ("sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")


@pytest.fixture
def knowing(engine: Engine, directories: PluginDirectories) -> Engine:
    """The engine, which finds the plugins of the test."""
    engine.environment[DIRECTORIES_VARIABLE] = str(directories.files[0])
    return engine


def start(engine: Engine, name: str, *options: str) -> str:
    engine.ok("run", "-d", "--name", name, *options, "box", *WAITS)
    engine.wait_for_output(name, "up")
    return str(engine.container(name)["id"])


def file_of(nas: ForeignPlugin, volume: str, name: str) -> Path:
    return nas.directory / "data" / volume / name


def test_containers_share_a_volume_of_a_plugin_by_their_ids(knowing: Engine, nas: ForeignPlugin) -> None:
    knowing.ok("volume", "create", "--driver", "nas", "-o", "path=/nas1", "nas1")
    first = start(knowing, "first", "-v", "nas1:/data")
    second = start(knowing, "second", "-v", "nas1:/data")
    assert nas.mounts("nas1") == {first: 1, second: 1}
    assert len(first) == 64
    knowing.ok("exec", "first", "touch", "/data/made")
    assert knowing.ok("exec", "second", "ls", "/data") == "made\n"
    assert file_of(nas, "nas1", "made").exists()
    knowing.ok("stop", "first")
    assert nas.mounts("nas1") == {second: 1}
    refused = knowing.run("volume", "rm", "nas1")
    assert refused.status == 1
    knowing.ok("rm", "-f", "first", "second")
    assert nas.mounts("nas1") == {}
    knowing.ok("volume", "rm", "nas1")
    assert nas.state() == {}


def test_content_of_the_image_does_not_go_into_a_volume_of_a_plugin(knowing: Engine, nas: ForeignPlugin) -> None:
    assert knowing.ok("run", "--rm", "--volume-driver", "nas", "-v", "fresh:/etc", "box", "ls", "/etc") == ""
    assert nas.mounts("fresh") == {}


def test_container_uses_a_volume_that_only_the_plugin_has(knowing: Engine, nas: ForeignPlugin) -> None:
    (nas.directory / "state").write_text(json.dumps({"theirs": {"options": {}, "mounts": {}}}))
    file_of(nas, "theirs", "").mkdir(parents=True)
    file_of(nas, "theirs", "old").touch()
    assert knowing.ok("run", "--rm", "-v", "theirs:/data", "box", "ls", "/data") == "old\n"
    (listed,) = json.loads(knowing.ok("volume", "ls", "--json"))
    assert (listed["name"], listed["driver"]) == ("theirs", "nas")


def test_container_whose_volume_cannot_be_mounted_does_not_start(knowing: Engine, nas: ForeignPlugin) -> None:
    nas.behave(Mount={"works": True, "answer": {"Mountpoint": "/nowhere/at/all"}})
    failed = knowing.run("run", "--rm", "--volume-driver", "nas", "-v", "data:/data", "box", "true")
    assert failed.status == 125
    assert "volume plugin nas: VolumeDriver.Mount: Mountpoint is '/nowhere/at/all'" in failed.stderr
    assert nas.mounts("data") == {}
    assert knowing.containers() == []


def test_volume_of_a_container_whose_monitor_was_killed_is_unmounted(knowing: Engine, nas: ForeignPlugin) -> None:
    container = start(knowing, "box1", "--volume-driver", "nas", "-v", "data:/data")
    assert nas.mounts("data") == {container: 1}
    kill(knowing.monitor_of(container))
    knowing.ok("ps")
    assert nas.mounts("data") == {}
    knowing.ok("rm", "box1")
    knowing.ok("volume", "rm", "data")


def test_plugin_that_was_killed_and_started_again_is_told_of_the_end(knowing: Engine, nas: ForeignPlugin) -> None:
    container = start(knowing, "box1", "--volume-driver", "nas", "-v", "data:/data")
    nas.kill()
    knowing.ok("exec", "box1", "touch", "/data/while-down")
    nas.start()
    assert nas.mounts("data") == {container: 1}
    knowing.ok("stop", "box1")
    assert nas.mounts("data") == {}
    assert file_of(nas, "data", "while-down").exists()
