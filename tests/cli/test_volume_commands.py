"""``unionfs volume``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.stored_images import StoreCommands, store
from unionfs.store.store import open_store
from unionfs.volumes import Peer, open_volumes

__all__ = ["store"]  # the fixture

TMPFS = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,password=secret")


def test_create_prints_the_name(store: StoreCommands) -> None:
    assert store.ok("volume", "create", "data") == "data\n"
    assert store.ok("volume", "create", "--name", "other") == "other\n"
    made_up = store.ok("volume", "create")
    assert len(made_up) == 65
    assert sorted(store.ok("volume", "ls", "-q").split()) == sorted(["data", "other", made_up.strip()])


def test_ls_shows_driver_name_and_users(store: StoreCommands) -> None:
    store.ok("volume", "create", "data")
    heading, row = store.rows("volume", "ls")
    assert heading[:2] == ["DRIVER", "NAME"]
    assert row[:2] == ["local", "data"]


def test_ls_and_inspect_tell_everything_as_json(store: StoreCommands) -> None:
    store.ok("volume", "create", "--label", "a=b", *TMPFS, "scratch")
    (listed,) = store.json("volume", "ls")
    (inspected,) = json.loads(store.ok("volume", "inspect", "scratch"))
    assert listed == inspected
    assert (listed["name"], listed["driver"], listed["scope"]) == ("scratch", "local", "local")
    assert listed["options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,password=********"}
    assert (listed["labels"], listed["anonymous"], listed["used_by"], listed["mounts"]) == ({"a": "b"}, False, [], [])
    assert listed["mountpoint"] is None


def test_filters_choose(store: StoreCommands) -> None:
    store.ok("volume", "create", "--label", "a=b", "one")
    store.ok("volume", "create", "two")
    assert store.ok("volume", "ls", "-q", "-f", "label=a") == "one\n"
    assert store.ok("volume", "ls", "-q", "--filter", "name=t", "--filter", "dangling=true") == "two\n"
    assert "not a filter of volumes" in store.refusal("volume", "ls", "-f", "colour=red", status=2)


def test_rm_goes_on_after_one_that_is_not_there(store: StoreCommands) -> None:
    store.ok("volume", "create", "data")
    ended = store.run("volume", "rm", "none", "data")
    assert (ended.status, ended.stdout) == (1, "data\n")
    assert ended.stderr == "unionfs: none: no such volume; unionfs volume ls lists them\n"
    assert store.ok("volume", "rm", "--force", "none") == ""


def test_prune_asks_first(store: StoreCommands) -> None:
    name = store.ok("volume", "create").strip()
    store.ok("volume", "create", "named")
    refused = store.run("volume", "prune", stdin=b"n\n")
    assert refused.status == 130
    assert "Remove all anonymous volumes that nobody uses" in refused.stderr
    assert store.run("volume", "prune", stdin=b"y\n").stdout.splitlines()[0] == name
    assert store.ok("volume", "ls", "-q") == "named\n"
    assert store.json("volume", "prune", "--all", "--force")["removed"] == ["named"]


def test_release_forgets_ended_engines_alone(store: StoreCommands) -> None:
    store.ok("volume", "create", "data")
    with open_store(store.root) as opened:
        volumes = open_volumes(opened)
        volumes.mount("data", "plugin:ended", Peer(os.getpid(), 1))
        volumes.mount("data", "plugin:alive")
    assert store.ok("volume", "release", "data") == "plugin:ended\n"
    assert "plugin:none: has data not mounted" in store.refusal("volume", "release", "data", "plugin:none")
    assert store.ok("volume", "release", "data", "plugin:alive") == "plugin:alive\n"
    assert store.ok("volume", "rm", "data") == "data\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("create", "a"), 2, "a: not a name of a volume"),
        (("create", "one", "--name", "two"), 2, "the name is given twice"),
        (("create", "-o", "size", "data"), 2, "size: not an option of a driver; write --opt NAME=VALUE"),
        (("create", "-o", "colour=red", "data"), 2, "colour: not an option of the driver local"),
        (("create", "-d", "nas", "data"), 1, "nas: no such volume driver"),
        (("create", "-d", "overlay", "data"), 2, "0 of lower, image, volume are given"),
        (("inspect", "none"), 1, "none: no such volume; unionfs volume ls lists them"),
        (("rm",), 2, "Missing argument"),
    ],
)
def test_wrong_usage_is_told(store: StoreCommands, arguments: tuple[str, ...], status: int, said: str) -> None:
    assert said in store.refusal("volume", *arguments, status=status)


def test_doctor_tells_of_volumes_and_makes_no_store(store: StoreCommands, tmp_path: Path) -> None:
    store.ok("volume", "create", "data")
    with open_store(store.root) as opened:
        open_volumes(opened).mount("data", "plugin:ended", Peer(os.getpid(), 1))
    assert "volume data: mounted for plugin:ended, whose engine has ended" in store.run("doctor").stdout
    assert "volume" not in store.run("doctor", "--root", tmp_path / "none").stdout
    assert not (tmp_path / "none").exists()
