"""``unionfs image`` and ``unionfs gc`` where containers use images; ``unionfs export`` where there is nowhere to write."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import Engine
from tests.containers.rootless_user import User


@pytest.fixture
def used(engine: Engine) -> Iterator[Engine]:
    """A container ``web`` of the image ``box``, stopped."""
    engine.ok("run", "--name", "web", "box", "true")
    yield engine
    engine.run("rm", "-f", "web")


def images(engine: Engine) -> list[list[str]]:
    return [image["names"] for image in json.loads(engine.ok("image", "ls", "--json"))]


def test_image_in_use_stays_and_its_container_is_named(used: Engine) -> None:
    ended = used.run("image", "rm", "box")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == (
        "unionfs: box: used by containers: web; remove them first (unionfs rm), or use --force to take its names away\n"
    )
    assert json.loads(used.ok("image", "prune", "-a", "--json"))["images"] == []
    assert json.loads(used.ok("image", "inspect", "box", "--json"))["containers"] == ["web"]
    assert images(used) == [["box:latest"]]


def test_one_of_several_names_of_an_image_in_use_may_go(used: Engine) -> None:
    used.ok("image", "tag", "box", "other")
    assert used.ok("image", "rm", "box") == "untagged: box:latest\n"
    assert images(used) == [["other:latest"]]


def test_image_that_lost_its_name_stays_for_its_container_and_goes_after_it(used: Engine) -> None:
    assert used.ok("image", "rm", "--force", "box") == ("untagged: box:latest\nkept without a name for its containers: web\n")
    assert used.ok("image", "prune").startswith("freed 0B")
    assert images(used) == [[]]
    used.ok("rm", "web")
    assert len(json.loads(used.ok("image", "prune", "--json"))["images"]) == 1
    assert images(used) == []
    assert json.loads(used.ok("layer", "ls", "--json")) == []


def test_collection_takes_nothing_that_a_container_stands_on(used: Engine) -> None:
    before = used.ok("layer", "ls")
    assert used.ok("gc").startswith("removed 0 layers, 0 snapshots")
    assert used.ok("layer", "ls") == before
    assert used.ok("diff", "web") == ""


def test_archive_is_not_written_to_a_terminal(engine: Engine) -> None:
    master, slave = pty.openpty()
    with engine.started("export", "box", stdout=slave) as process:
        _, error = process.communicate(timeout=60)
    os.close(slave)
    os.close(master)
    assert process.returncode == 2
    assert error.decode() == (
        "unionfs: a terminal is no place for an archive: give a file (--output), or a pipe; unionfs export --help tells how\n"
    )


def test_user_without_subordinate_ids_is_told_what_an_import_leaves_out(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("tested by root")
    user = User(tmp_path / "home", has_ids=False)
    told = "1 entry (the first: 'owned') without what only root may set: owner"
    ended = user.run("unionfs image import base.tar app; unionfs image inspect app --json; unionfs layer verify >&2")
    assert ended.status == 0, ended.stderr
    first, *verified = ended.stderr.splitlines()
    assert first == f"unionfs: app:latest: {told}; import it as root, or with subordinate ids (/etc/subuid)"
    assert [line.split()[1:] for line in verified[1:]] == [["ok"]]
    assert json.loads(ended.stdout.partition("\n")[2])["skipped"] == told
