"""Several commands on one store at the same moment: each does its own, or says in a line why not; nothing is left over."""

from __future__ import annotations

import subprocess

import pytest

from tests.containers.engine import Engine, kill
from tests.containers.test_endings import start
from unionfs.store.store import open_store


def at_once(engine: Engine, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Exit status and stderr of commands that run beside each other."""
    processes = [
        subprocess.Popen(
            engine.command(*command),
            env=engine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for command in commands
    ]
    results = [(process.communicate(timeout=60)[1].decode(), process.returncode) for process in processes]
    return [(status, error) for error, status in results]


def test_ps_at_once_after_a_killed_monitor_cleans_up_once(engine: Engine) -> None:
    found = start(engine, "--rm")
    kill(engine.monitor_of(str(found["id"])))
    assert at_once(engine, *[("ps",)] * 4) == [(0, "")] * 4
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_of_several_rm_at_once_one_removes_it_and_the_others_say_why_not(engine: Engine) -> None:
    start(engine)
    results = at_once(engine, *[("rm", "-f", "box1")] * 3, ("ps",))
    assert results[3] == (0, "")
    assert (0, "") in results[:3]
    for status, error in results[:3]:
        assert status == 0 or "another command is at work on it" in error or "no such container" in error
    engine.ok("ps")
    assert (engine.containers(), engine.leftovers()) == ([], [])


@pytest.mark.parametrize("turn", range(2))
def test_run_beside_gc_and_rm_of_others(engine: Engine, turn: int) -> None:
    if turn:  # what containers of an image stand on is there, and nothing uses it
        engine.ok("run", "--rm", "box", "true")
    engine.ok("run", "--name", "old", "box", "true")
    results = at_once(
        engine,
        *[("run", "--rm", "--network", "none", "box", "touch", "/new")] * 3,
        *[("gc",)] * 3,
        ("ps", "-a"),
        ("rm", "old"),
        ("image", "ls"),
    )
    assert results == [(0, "")] * 9
    assert (engine.containers(), engine.leftovers()) == ([], [])


def test_commit_beside_gc_keeps_its_layer(engine: Engine) -> None:
    engine.ok("run", "--name", "changed", "box", "touch", "/new")
    results = at_once(engine, ("commit", "changed", "box:made"), *[("gc",)] * 5)
    assert results == [(0, "")] * 6
    assert engine.ok("run", "--rm", "box:made", "ls", "/new") == "/new\n"
    with open_store(engine.root) as store:
        for layer in store.layers.all():
            store.layers.verify(layer.diff_id)


def test_what_containers_of_an_image_stand_on_goes_with_the_image(engine: Engine) -> None:
    engine.ok("run", "--rm", "box", "true")
    engine.ok("gc")
    with open_store(engine.root) as store:
        assert [info.name for info in store.snapshots.walk() if info.name.startswith("init-")]
    engine.ok("image", "rm", "box")
    engine.ok("gc")
    with open_store(engine.root) as store:
        assert list(store.snapshots.walk()) == []
        assert store.layers.all() == []
    assert engine.leftovers() == []
