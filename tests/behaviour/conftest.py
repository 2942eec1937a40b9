"""Every test of this folder runs on every backend.

The layers come from the test's ``layers`` marker (arguments: `Layers.of_marker`).  A mount of ours costs as much as dozens of
tests, so most tests ask for ``union``: a directory of its own inside one mount for the whole module.  A test that needs a
mount to itself, because it is about the root or mounts again, asks for ``own_union``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import ALL, Backend

from .union import Layers, Mounted, Union

SHARED_LOWERS = 3
"""How many lowers the mount of a module has; a test's directory stands only in as many as it asks for."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "layers(lower, upper, read_only, data): what the layers of the test's union hold")
    config.addinivalue_line("markers", "mount_options(*words): mount(8) options of the test's own_union")


@pytest.fixture(scope="module", params=ALL, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn."""
    return request.param


def layers_of(item: pytest.Item) -> Layers:
    marker = item.get_closest_marker("layers")
    return Layers.of_marker(*marker.args, **marker.kwargs) if marker else Layers.of_marker()


@pytest.fixture(scope="module")
def unions(
    request: pytest.FixtureRequest, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Union]]:
    """The unions of the module's tests on this backend, by node id: directories of one mount."""
    mounted = Mounted(backend, tmp_path_factory.mktemp(backend.name), SHARED_LOWERS)
    items = [item for item in request.session.items if item.path == request.path and "union" in item.fixturenames]
    unions = {
        item.nodeid: Union.in_mount(mounted, layers_of(item), f"case{number}")
        for number, item in enumerate(items)
        if item.callspec.params["backend"] is backend
    }
    mounted.mount()
    yield unions
    mounted.umount()


@pytest.fixture
def union(request: pytest.FixtureRequest, unions: dict[str, Union]) -> Iterator[Union]:
    """The test's union: a directory of the module's mount.  At the end, no lower byte may have changed."""
    union = unions[request.node.nodeid]
    yield union
    assert union.changed_in_lowers() == []


@pytest.fixture
def own_union(request: pytest.FixtureRequest, backend: Backend, tmp_path: Path) -> Iterator[Union]:
    """A union mounted for this test alone, with as many lowers as it asks for.  At the end, no lower byte may have changed."""
    layers = layers_of(request.node)
    options = request.node.get_closest_marker("mount_options")
    words = options.args if options else ()
    mounted = Mounted(backend, tmp_path, len(layers.lowers), layers.read_only, words, len(layers.data))
    union = Union.in_mount(mounted, layers)
    mounted.mount()
    yield union
    mounted.umount()
    assert union.changed_in_lowers() == []
