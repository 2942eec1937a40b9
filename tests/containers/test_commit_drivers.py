"""`diff` and `commit`, the same whatever driver keeps a container's root filesystem."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.btrfs import btrfs
from tests.containers.engine import Engine
from unionfs.store.store import open_store

__all__ = ["btrfs"]  # the fixture

CHANGE = (
    "echo changed >/etc/file; rm /etc/group; mkdir /new; echo new >/new/file; rm -r /tmp; mkdir /tmp; echo in >/tmp/in;"
    "ln /etc/passwd /etc/shadow; ln -s ../plain /new/link; rm /plain; mkdir /plain"
)
CHANGES = """\
M /etc
M /etc/file
D /etc/group
M /etc/passwd
A /etc/shadow
A /new
A /new/file
A /new/link
M /plain
M /tmp
A /tmp/in
"""


@pytest.fixture(params=["union", "overlay", "copy", "btrfs"])
def driven(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A store with one image, ``box``, for each driver."""
    if os.geteuid() != 0 or shutil.which("runc") is None or not Path("/bin/busybox").exists():
        pytest.skip("containers need root, runc and busybox-static")
    directory = tmp_path
    if request.param == "btrfs":
        directory = Path(tempfile.mkdtemp(dir=request.getfixturevalue("btrfs")))
    engine = Engine(directory / "store")
    engine.environment["UNIONFS_DRIVER"] = request.param
    engine.add_image("box")
    yield engine
    engine.end_all()


def layer_of(engine: Engine, name: str) -> str:
    """The topmost layer of an image, which is sound."""
    with open_store(engine.root) as store:
        layer = store.images.find(name).layers[-1]
        store.layers.verify(layer)
        return str(layer)


def test_diff_names_what_was_changed(driven: Engine) -> None:
    driven.ok("run", "--name", "changed", "box", "sh", "-c", CHANGE)
    assert driven.ok("diff", "changed") == CHANGES


def test_diff_of_nothing_is_empty(driven: Engine) -> None:
    driven.ok("run", "--name", "idle", "box", "true")
    assert driven.ok("diff", "idle") == ""


def test_diff_of_a_running_container_lets_it_go_on(driven: Engine) -> None:
    driven.ok("run", "-d", "--name", "runs", "box", "sh", "-c", "echo now >/new; echo up; exec sleep 1000")
    driven.wait_for_output("runs", "up")
    assert driven.ok("diff", "runs") == "A /new\n"
    assert driven.ok("exec", "runs", "cat", "/new") == "now\n"


def test_committed_image_shows_what_the_container_did(driven: Engine) -> None:
    driven.ok("run", "--name", "changed", "box", "sh", "-c", CHANGE)
    driven.ok("commit", "changed", "box:changed")
    layer_of(driven, "box:changed")
    script = "cat /etc/file /new/file /etc/shadow; ls /tmp /plain; readlink /new/link; ls -d /etc/group"
    ended = driven.run("run", "--rm", "box:changed", "sh", "-c", script)
    users = driven.ok("run", "--rm", "box", "cat", "/etc/passwd")
    assert ended.stdout == f"changed\nnew\n{users}/plain:\n\n/tmp:\nin\n../plain\n"
    assert ended.stderr.count("No such file") == 1


def test_running_container_is_committed_and_goes_on(driven: Engine) -> None:
    driven.ok("run", "-d", "--name", "runs", "box", "sh", "-c", "echo now >/new; echo up; exec sleep 1000")
    driven.wait_for_output("runs", "up")
    driven.ok("commit", "runs", "box:now")
    assert driven.ok("exec", "runs", "cat", "/new") == "now\n"
    assert driven.ok("run", "--rm", "box:now", "cat", "/new") == "now\n"


def test_equal_changes_make_layers_of_equal_bytes(driven: Engine) -> None:
    script = "echo same >/new; rm /etc/group; echo more >>/etc/file; touch -d @1000 /new /etc/file /etc /"
    for name in ("first", "second"):
        driven.ok("run", "--name", name, "box", "sh", "-c", script)
        driven.ok("commit", name, f"box:{name}")
    assert layer_of(driven, "box:first") == layer_of(driven, "box:second")
    assert not list((driven.root / "staging").iterdir())
