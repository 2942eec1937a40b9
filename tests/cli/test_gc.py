"""``unionfs gc``: what it removes, what it leaves, what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.cli.stored_images import BASE, OTHER, TOP, StoreCommands, store
from unionfs.store.leases import adding
from unionfs.store.store import open_store

__all__ = ["store"]  # the fixture

NOTHING = "removed 0 layers, 0 snapshots, 0 configs, 0 left-over directories; freed 0B\n"


def unused_layer(store: StoreCommands, tar: bytes) -> None:
    """A layer that no image has: what an import leaves that fails behind its first layer."""
    import io

    with open_store(store.root) as opened:
        opened.layers.add_from_tar(io.BytesIO(tar))


def killed_maker(store: StoreCommands) -> str:
    """What a process leaves in staging/ that is killed; its name there."""
    program = """
import os, signal, sys
from pathlib import Path
from unionfs.store.staging import staged
with staged(Path(sys.argv[1])) as directory:
    (directory / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, store.root], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (name,) = os.listdir(store.root / "staging")
    return name


def test_nothing_is_removed_where_all_is_used(store: StoreCommands) -> None:
    store.import_("a", BASE, TOP)
    assert store.ok("gc") == NOTHING
    assert len(store.json("layer", "ls")) == 2


def test_images_without_a_name_stay(store: StoreCommands) -> None:
    store.import_("a", BASE)
    store.import_("a", OTHER)
    assert store.ok("gc") == NOTHING
    assert len(store.json("image", "ls")) == 2


def test_layers_that_nobody_has_are_removed_and_what_they_took_is_told(store: StoreCommands) -> None:
    store.import_("a", BASE)
    unused_layer(store, OTHER)
    assert store.ok("gc") == "removed 1 layers, 0 snapshots, 0 configs, 0 left-over directories; freed 7kB\n"
    assert len(store.json("layer", "ls")) == 1
    assert len(os.listdir(store.root / "layers")) == 1


def test_what_a_killed_command_left_is_removed(store: StoreCommands) -> None:
    store.import_("a", BASE)
    name = killed_maker(store)
    collected = store.json("gc")
    assert collected["staging"] == [name]
    assert (collected["layers"], collected["snapshots"], collected["configs"]) == ([], [], [])
    assert os.listdir(store.root / "staging") == []


def test_layers_stay_while_somebody_adds_and_that_is_said(store: StoreCommands) -> None:
    store.import_("a", BASE)
    unused_layer(store, OTHER)
    with adding(store.root):
        assert store.ok("gc") == NOTHING + "something is being added to the store: run it again afterwards for the layers\n"
        assert store.json("gc")["is_complete"] is False
    assert store.json("gc")["freed"] == 7_000


@pytest.mark.parametrize("arguments", [["all"], ["--force"]])
def test_arguments_that_it_has_not_are_wrong_usage(store: StoreCommands, arguments: list[str]) -> None:
    assert store.refusal("gc", *arguments, status=2).endswith("; unionfs gc --help tells how")


def test_root_of_the_store_is_taken_from_the_option_before_the_environment(store: StoreCommands) -> None:
    store.import_("a", BASE)
    elsewhere = store.root.with_name("elsewhere")
    assert store.ok("gc", "--root", elsewhere) == NOTHING
    assert store.json("image", "ls", "--root", elsewhere) == []
    assert len(store.json("image", "ls")) == 1
