"""``unionfs run --size``: how much a container may write."""

from __future__ import annotations

import json

import pytest

from tests.containers.engine import Engine

MIB = 1 << 20
FILL = "head -c 4194304 /dev/zero | cat >/tmp/fill"


def test_container_meets_its_limit_and_no_other_one_does(engine: Engine) -> None:
    other = engine.ok("run", "-d", "--name", "other", "box", "sleep", "100")
    assert other
    ended = engine.run(
        "run",
        "--rm",
        "--size",
        "1M",
        "box",
        "sh",
        "-c",
        f"{FILL}; ls -l /tmp/fill; rm /tmp/fill; until echo x >/tmp/again; do :; done",
    )
    assert "No space left on device" in ended.stderr
    assert ended.status == 0
    size = int(ended.stdout.split()[4])
    assert MIB - 131072 <= size <= MIB
    assert engine.ok("exec", "other", "sh", "-c", "printf '%03145728d' 0 >/tmp/large; echo done") == "done\n"
    engine.ok("rm", "-f", "other")
    assert engine.leftovers() == []


def test_df_in_the_container_shows_the_limit(engine: Engine) -> None:
    shown = engine.ok("run", "--rm", "--size", "64M", "box", "df", "-P", "-k", "/").splitlines()[-1].split()
    assert int(shown[1]) == 65536
    assert 0 < int(shown[3]) <= 65536


def test_file_of_the_image_that_does_not_fit_is_not_copied_up(engine: Engine) -> None:
    engine.add_image("large", {"data": "d" * 300_000})
    script = "echo x >>/data; wc -c </data; echo y >>/etc/file; cat /etc/file"
    ended = engine.run("run", "--rm", "--size", "128k", "large", "busybox", "sh", "-c", script.replace("wc", "busybox wc"))
    assert (ended.status, ended.stdout) == (0, "300000\nimage\ny\n")
    assert "No space left on device" in ended.stderr


def test_limit_is_kept_over_exec_and_shown_by_status(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "small", "--size", "1M", "box", "sleep", "100")
    (merged,) = engine.mounts()
    status = json.loads(engine.ok("status", "--json", merged))
    assert status["union"]["size_limit"] == MIB
    ended = engine.run("exec", "small", "sh", "-c", f"{FILL}; ls -l /tmp/fill")
    assert MIB - 131072 <= int(ended.stdout.split()[4]) <= MIB
    assert "No space left on device" in ended.stderr
    assert json.loads(engine.ok("status", "--json", merged))["union"]["size_used"] <= MIB
    engine.ok("rm", "-f", "small")
    assert engine.leftovers() == []


def test_snapshot_of_a_limited_container_makes_room(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "small", "--size", "1M", "box", "sleep", "100")
    (merged,) = engine.mounts()
    engine.run("exec", "small", "sh", "-c", FILL)
    engine.ok("snapshot", merged, "full")
    assert engine.ok("exec", "small", "sh", "-c", "printf '%0524288d' 0 >/tmp/more; ls /tmp") == "fill\nmore\n"
    engine.ok("rm", "-f", "small")
    assert engine.leftovers() == []


@pytest.mark.parametrize("driver", ["overlay", "copy"])
def test_driver_that_cannot_limit_refuses_and_leaves_nothing(engine: Engine, driver: str) -> None:
    ended = engine.run("run", "--size", "1M", "box", "true", UNIONFS_DRIVER=driver)
    assert ended.status == 125
    assert f"the driver {driver} cannot limit its size; leave the limit out, or use --driver union" in ended.stderr
    assert engine.containers() == []
    assert engine.leftovers() == []


@pytest.mark.parametrize("size", ["0", "much", "-1", "1.5G"])
def test_what_is_no_size_is_wrong_usage(engine: Engine, size: str) -> None:
    ended = engine.run("run", f"--size={size}", "box", "true")
    assert (ended.status, ended.stdout) == (125, "")
    assert f"{size}: not a size; write a number of bytes" in ended.stderr
    assert engine.containers() == []
