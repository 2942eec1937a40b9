"""The real dockerd and we ask the same of the same plugin in the same words: neither our client nor the plugin of the tests is
an invention of ours."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.dropin.conftest import needs, place
from tests.dropin.test_docker import Docker, docker
from tests.volumes.plugin.conftest import FakeClock, ForeignPlugin, StartPlugin, plugins_with
from unionfs.store.store import Store
from unionfs.volumes import open_volumes
from unionfs.volumes.drivers.plugin.discovery import PluginDirectories
from unionfs.volumes.filters import Filters

__all__ = ["docker", "place"]

pytestmark = needs("dockerd", "docker", "containerd", "runc")

DIRECTORY = Path("/etc/docker/plugins")
"""dockerd knows no option for another one."""


@contextlib.contextmanager
def known_to_docker(plugin: ForeignPlugin) -> Iterator[str]:
    """The name of the plugin."""
    name = f"unionfs-test-{os.getpid()}"
    made = [directory for directory in (DIRECTORY, DIRECTORY.parent) if not directory.exists()]
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    spec = DIRECTORY / f"{name}.spec"
    spec.write_text(f"unix://{plugin.where}")
    try:
        yield name
    finally:
        spec.unlink()
        for directory in made:
            with contextlib.suppress(OSError):  # somebody else uses it meanwhile
                directory.rmdir()


def words(plugin: ForeignPlugin) -> dict[str, tuple[str, str | None, bool, Any, bool]]:
    """What was said in each call first: Accept, Content-Type, whether the length was given, the body, whether it ends a line."""
    found = {}
    for request in plugin.requests:
        headers, body = request["headers"], request["body"]
        length = headers["Content-Length"] == str(len(body))
        said = (headers["Accept"], headers.get("Content-Type"), length, json.loads(body or "null"), body.endswith("\n"))
        found.setdefault(request["call"], said)
    return found


def without_id(said: dict[str, Any]) -> dict[str, Any]:
    for accept, kind, length, body, line in said.values():
        del accept, kind, length, line
        if body and "ID" in body:
            assert len(bytes.fromhex(body.pop("ID"))) == 32
    return said


def ask_by_docker(docker: Docker, plugin: ForeignPlugin) -> None:
    with known_to_docker(plugin) as name:
        docker("volume", "create", "--driver", name, "--opt", "size=10G", "data")
        assert name in docker("volume", "ls")
        docker("volume", "inspect", "data")
        docker.run("--rm", "-v", "data:/data", "base:1", "touch", "/data/by-docker")
        docker("volume", "rm", "data")


def ask_by_us(store: Store, plugin: ForeignPlugin, directories: PluginDirectories) -> None:
    (directories.files[0] / "nas.spec").write_text(f"unix://{plugin.where}")
    volumes = open_volumes(store, plugins_with(directories, FakeClock()))
    volume = volumes.create("data", "nas", {"size": "10G"})
    volumes.listed(Filters())
    volumes.scope(volume)
    volumes.mountpoint(volume)
    volumes.mount("data", f"container:{'ab' * 32}")
    volumes.unmount("data", f"container:{'ab' * 32}")
    volumes.remove("data")


def test_docker_and_we_say_the_same(
    docker: Docker,
    store: Store,
    start_plugin: StartPlugin,
    directories: PluginDirectories,
) -> None:
    dockers, ours = start_plugin("dockers"), start_plugin("ours")
    ask_by_docker(docker, dockers)
    assert (dockers.directory / "data/data/by-docker").exists()
    assert dockers.state() == {}
    ask_by_us(store, ours, directories)
    theirs, mine = without_id(words(dockers)), without_id(words(ours))
    assert {
        "Plugin.Activate",
        *(f"VolumeDriver.{call}" for call in ("Create", "Mount", "Unmount", "Remove", "Get", "List")),
    } <= set(theirs)
    assert {call: said for call, said in mine.items() if call in theirs} == theirs
