"""`commit` and `export`: what a container has changed, as an image and as an archive."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.containers.engine import Engine
from tests.programs import run
from unionfs.containers.config_changes import apply_changes
from unionfs.store.errors import StoreError
from unionfs.store.store import open_store

CHANGE = "echo changed >/etc/file; rm /etc/group; mkdir /new; echo new >/new/file; rm -r /tmp"


def layers_of(engine: Engine, name: str) -> list[str]:
    store = open_store(engine.root)
    try:
        return [str(diff_id) for diff_id in store.images.find(name).layers]
    finally:
        store.close()


def test_a_committed_image_has_the_layers_of_its_image_and_one_of_the_changes(engine: Engine) -> None:
    engine.ok("run", "--name", "changed", "box", "sh", "-c", CHANGE)
    engine.ok("commit", "changed", "box:changed")
    before, after = layers_of(engine, "box"), layers_of(engine, "box:changed")
    assert (after[: len(before)], len(after)) == (before, len(before) + 1)
    script = "cat /etc/file /new/file; ls -d /etc/group /tmp"
    ended = engine.run("run", "--rm", "box:changed", "sh", "-c", script)
    assert ended.stdout == "changed\nnew\n"
    assert ended.stderr.count("No such file") == 2


def test_equal_changes_make_equal_layers_and_with_a_fixed_time_equal_images(engine: Engine) -> None:
    script = "echo same >/new; touch -d @1000 /new /"
    ids = []
    for name in ("first", "second"):
        engine.ok("run", "--name", name, "box", "sh", "-c", script)
        ids.append(engine.ok("commit", name, f"box:{name}", SOURCE_DATE_EPOCH="0"))
    assert layers_of(engine, "box:first")[-1] == layers_of(engine, "box:second")[-1]
    assert ids[0] == ids[1]


def test_a_running_container_is_committed_and_goes_on(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "runs", "box", "sh", "-c", "echo now >/new; echo up; exec sleep 1000")
    engine.wait_for_output("runs", "up")
    engine.ok("commit", "runs", "box:now")
    assert engine.ok("run", "--rm", "box:now", "cat", "/new") == "now\n"
    assert engine.ok("exec", "runs", "cat", "/new") == "now\n"


def test_settings_of_the_container_and_changes_come_into_the_image(engine: Engine) -> None:
    engine.ok("run", "--name", "set", "-e", "GIVEN=1", "--label", "by=run", "box", "true")
    changes = ['CMD ["sh", "-c", "echo $GIVEN $MORE; pwd"]', "ENV MORE=2", "WORKDIR /etc", "LABEL also=this", "EXPOSE 80"]
    options = [word for change in changes for word in ("-c", change)]
    engine.ok("commit", "-m", "why", "-a", "me", *options, "set", "box:set")
    assert engine.ok("run", "--rm", "box:set") == "1 2\n/etc\n"
    store = open_store(engine.root)
    raw = store.images.find("box:set").config.raw
    store.close()
    config = json.loads(json.dumps(raw))
    assert (config["author"], config["history"][-1]["comment"]) == ("me", "why")
    assert config["config"]["Labels"] == {"by": "run", "also": "this"}
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}


@pytest.mark.parametrize("change", ["FROM x", "CMD", "WORKDIR etc", "EXPOSE many", "ENV NAME", 'CMD ["a", 1]'])
def test_an_instruction_that_makes_no_sense_is_refused(change: str) -> None:
    with pytest.raises(StoreError) as caught:
        apply_changes({}, [change])
    assert caught.value.exit_status == 2


def test_exported_container_running_or_not_is_its_root_filesystem(engine: Engine, tmp_path: Path) -> None:
    engine.ok("run", "-d", "--name", "exported", "box", "sh", "-c", f"{CHANGE}; echo up; exec sleep 1000")
    engine.wait_for_output("exported", "up")
    running, stopped = tmp_path / "running.tar", tmp_path / "stopped.tar"
    engine.ok("export", "exported", "-o", running)
    engine.ok("stop", "-t", "0", "exported")
    engine.ok("export", "exported", "-o", stopped)
    assert running.read_bytes() == stopped.read_bytes()
    with tarfile.open(running) as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
        member = next(name for name in tar.getnames() if name.removeprefix("./") == "new/file")
        content = tar.extractfile(member)
        assert content is not None
        assert content.read() == b"new\n"
    assert {"etc/file", "bin/busybox"} <= names
    assert not names & {"etc/group", "tmp"}
    assert engine.mounts() == []


def test_an_image_is_exported_to_standard_output(engine: Engine) -> None:
    exported = engine.ok("export", "box")
    with tarfile.open(fileobj=io.BytesIO(os.fsencode(exported))) as tar:
        assert "etc/passwd" in {name.removeprefix("./") for name in tar.getnames()}
    assert engine.leftovers() == []


def test_export_to_a_full_disk_leaves_the_old_file(engine: Engine, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small])
    try:
        (small / "file.tar").write_text("old")
        ended = engine.run("export", "box", "-o", small / "file.tar")
        assert (ended.status, ended.stderr.count("\n")) == (1, 1)
        assert "No space left on device" in ended.stderr
        assert [path.name for path in small.iterdir()] == ["file.tar"]
        assert (small / "file.tar").read_text() == "old"
    finally:
        run(["umount", small])
    assert engine.leftovers() == []


def test_what_is_neither_container_nor_image_is_named(engine: Engine) -> None:
    ended = engine.run("export", "nothing")
    assert (ended.status, ended.stderr) == (
        1,
        "unionfs: nothing: neither a container nor an image; unionfs ps -a and unionfs image ls list them\n",
    )
