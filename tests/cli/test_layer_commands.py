"""``unionfs layer``: what is listed, and which damage ``verify`` names."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.stored_images import BASE, OTHER, TOP, StoreCommands, store
from unionfs.store.digest import digest_of

__all__ = ["store"]  # the fixture

HEADINGS = "DIFF ID  SIZE  TAR  CREATED  IMAGES\n"


def test_empty_store_is_an_empty_list(store: StoreCommands) -> None:
    assert store.ok("layer", "ls") == HEADINGS
    assert store.json("layer", "ls") == []
    assert store.ok("layer", "verify") == "DIFF ID  PROBLEM\n"


def test_layers_are_listed_with_the_images_that_have_them(store: StoreCommands) -> None:
    store.import_("one", BASE, TOP)
    store.import_("two", BASE, OTHER)
    rows = {row[0]: row[1:] for row in store.rows("layer", "ls")[1:]}
    assert {digest: (row[0], row[-1]) for digest, row in rows.items()} == {
        digest_of(BASE): ("50kB", "2"),
        digest_of(TOP): ("4B", "1"),
        digest_of(OTHER): ("7kB", "1"),
    }
    listed = {layer["diff_id"]: layer for layer in store.json("layer", "ls")}
    assert sorted(listed[digest_of(BASE)]["images"]) == ["one:latest", "two:latest"]
    assert (listed[digest_of(TOP)]["size"], listed[digest_of(TOP)]["tar_size"]) == (4, len(TOP))


def test_inspect_takes_the_beginning_of_a_diff_id(store: StoreCommands) -> None:
    store.import_("one", BASE)
    described = store.json("layer", "inspect", digest_of(BASE).hex[:6])
    assert described["diff_id"] == digest_of(BASE)
    assert (Path(described["path"]) / "etc/name").read_text() == "base\n"
    shown = store.ok("layer", "inspect", digest_of(BASE))
    assert re.search("^images: +one:latest$", shown, re.MULTILINE)
    assert re.search("^size: +50kB$", shown, re.MULTILINE)


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_layer_that_is_not_there_is_named(store: StoreCommands, command: str) -> None:
    line = store.refusal("layer", command, "abc")
    assert line == "layer abc: not in the store; unionfs layer ls lists those that are"


def test_wrong_usage_has_status_2(store: StoreCommands) -> None:
    assert store.refusal("layer", "inspect", status=2).startswith("Missing argument")
    assert "No such option" in store.refusal("layer", "ls", "--all", status=2)


def test_sound_layers_are_ok(store: StoreCommands) -> None:
    store.import_("one", OTHER)
    store.import_("two", BASE, TOP)
    assert store.rows("layer", "verify")[1:] == [[digest_of(layer), "ok"] for layer in (OTHER, BASE, TOP)]
    assert store.ok("layer", "verify", digest_of(TOP)).count("\n") == 2
    assert os.listdir(store.root / "staging") == []


def test_verify_names_what_was_changed_and_fails(store: StoreCommands) -> None:
    store.import_("one", BASE, OTHER)
    (store.root / "layers" / digest_of(OTHER).hex / "diff/srv/data").chmod(0o600)
    ended = store.run("layer", "verify")
    assert (ended.status, ended.stderr) == (1, "")
    sound, damaged = ended.stdout.splitlines()[1:]
    assert sound.split() == [digest_of(BASE), "ok"]
    assert damaged.endswith("was changed: 'srv/data': mode is 0600, was 0644; remove the images that use it, import them again")
    listed = json.loads(store.run("layer", "verify", "--json").stdout)
    assert [(layer["diff_id"], layer["ok"]) for layer in listed] == [(digest_of(BASE), True), (digest_of(OTHER), False)]
    assert store.run("layer", "verify", digest_of(BASE)).status == 0
    assert os.listdir(store.root / "staging") == []
