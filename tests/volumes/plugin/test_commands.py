"""``unionfs volume`` with a foreign plugin, as a user has it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import preloaded
from tests.programs import Ended
from tests.volumes.plugin.conftest import ForeignPlugin
from unionfs.volumes.drivers.plugin.discovery import DIRECTORIES_VARIABLE, PluginDirectories

Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, directories: PluginDirectories) -> Run:
    """``run(NAME, ARGUMENT…)``: ``unionfs volume NAME --root STORE ARGUMENT…``."""
    environment = {**os.environ, DIRECTORIES_VARIABLE: ":".join(map(str, directories.files))}

    def run(name: str, *arguments: str) -> Ended:
        return preloaded.run(["volume", name, "--root", tmp_path / "store", *arguments], environment=environment)

    return run


def test_volume_of_a_plugin_from_create_to_rm(run: Run, nas: ForeignPlugin) -> None:
    options = {"diskid": "", "host": "10.46.225.247", "path": "/nas1", "mode": ""}
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    created = run("create", "--driver", "nas", *words, "--name", "nas1")
    assert (created.status, created.stdout, created.stderr) == (0, "nas1\n", "")
    assert nas.state()["nas1"]["options"] == options
    (described,) = json.loads(run("inspect", "nas1").stdout)
    assert (described["driver"], described["scope"], described["mountpoint"]) == ("nas", "global", None)
    assert described["status"]["options"]["host"] == "10.46.225.247"
    assert run("rm", "nas1").stdout == "nas1\n"
    assert nas.state() == {}


def test_volume_that_only_the_plugin_has_is_listed_inspected_and_removed(run: Run, nas: ForeignPlugin) -> None:
    (nas.directory / "state").write_text(json.dumps({"theirs": {"options": {}, "mounts": {}}}))
    run("create", "mine")
    listed = run("ls")
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [["local", "mine"], ["nas", "theirs"]]
    assert run("ls", "-q", "-f", "driver=nas").stdout == "theirs\n"
    assert [volume["name"] for volume in json.loads(run("ls", "--json").stdout)] == ["mine", "theirs"]
    (described,) = json.loads(run("inspect", "theirs").stdout)
    assert described["driver"] == "nas"
    assert run("rm", "theirs").stdout == "theirs\n"
    assert nas.state() == {}


def test_plugin_that_is_down_is_named_and_the_rest_listed(run: Run, nas: ForeignPlugin) -> None:
    run("create", "mine")
    nas.kill()
    listed = run("ls")
    assert listed.status == 0
    assert "mine" in listed.stdout
    assert listed.stderr.startswith("volume plugin nas: cannot connect to unix://")
    assert "its volumes are left out" in listed.stderr


def test_lost_volume_is_forgotten_by_force(run: Run, nas: ForeignPlugin) -> None:
    run("create", "-d", "nas", "data")
    (nas.directory / "state").write_text("{}")
    refused = run("rm", "data")
    assert (refused.status, refused.stdout) == (1, "")
    assert "unionfs: volume plugin nas: VolumeDriver.Remove failed: no such volume: data" in refused.stderr
    assert run("rm", "--force", "data").stdout == "data\n"
    assert run("ls", "-q").stdout == ""


def test_wrong_name_of_a_driver_is_wrong_usage(run: Run) -> None:
    refused = run("create", "-d", "../nas", "data")
    assert refused.status == 2
    assert "../nas: not a name of a volume driver" in refused.stderr
