"""Bind mounts, volumes and tmpfs in real containers: docker's rules (`docs/volumes.md`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import Engine, kill
from tests.programs import output
from unionfs.linux.mount import MS_BIND, MS_PRIVATE, mount, umount

MS_SHARED, MS_SLAVE = 1 << 20, 1 << 19
WAITS = ("sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host with a file."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "of-host").write_text("host\n")
    return host


def volume(engine: Engine, name: str) -> dict[str, Any]:
    (found,) = json.loads(engine.ok("volume", "inspect", name))
    assert isinstance(found, dict)
    return found


def data_of(engine: Engine, name: str) -> Path:
    return engine.root / "volumes" / name / "_data"


def names(engine: Engine) -> list[str]:
    return engine.ok("volume", "ls", "-q").split()


def start(engine: Engine, name: str, *options: str) -> None:
    engine.ok("run", "-d", "--name", name, *options, "box", *WAITS)
    engine.wait_for_output(name, "up")


# -- the types ----------------------------------------------------------------------------------------------------------------


def test_bind_shows_the_host_and_the_container_changes_it(engine: Engine, host: Path) -> None:
    assert (
        engine.ok("run", "--rm", "-v", f"{host}:/data", "box", "sh", "-c", "cat /data/of-host; echo new > /data/new") == "host\n"
    )
    assert (host / "new").read_text() == "new\n"


def test_bind_of_a_file(engine: Engine, host: Path) -> None:
    file = host / "of-host"
    assert engine.ok("run", "--rm", "-v", f"{file}:/etc/file:ro", "box", "cat", "/etc/file") == "host\n"
    assert engine.ok("run", "--rm", "--mount", f"type=bind,src={file},dst=/new/file", "box", "cat", "/new/file") == "host\n"


def test_missing_source_is_made_for_v_and_refused_for_mount(engine: Engine, tmp_path: Path) -> None:
    engine.ok("run", "--rm", "-v", f"{tmp_path}/made/here:/data", "box", "touch", "/data/x")
    assert (tmp_path / "made/here/x").exists()
    refused = engine.run("run", "--rm", "--mount", f"type=bind,source={tmp_path}/none,target=/data", "box", "true")
    assert refused.status == 125
    assert f"{tmp_path}/none: the source of a bind is not there" in refused.stderr
    assert not (tmp_path / "none").exists()
    assert engine.containers() == []


def test_named_volume_is_made_when_first_used_and_shared_by_containers(engine: Engine) -> None:
    engine.ok("run", "--rm", "-v", "shared:/data", "box", "sh", "-c", "echo first > /data/file")
    assert engine.ok("run", "--rm", "-v", "shared:/other/place", "box", "cat", "/other/place/file") == "first\n"
    assert names(engine) == ["shared"]
    assert (data_of(engine, "shared") / "file").read_text() == "first\n"


def test_two_running_containers_share_a_volume(engine: Engine) -> None:
    start(engine, "writer", "-v", "shared:/data")
    start(engine, "reader", "-v", "shared:/data:ro")
    engine.ok("exec", "writer", "sh", "-c", "echo now > /data/file")
    assert engine.ok("exec", "reader", "cat", "/data/file") == "now\n"
    assert engine.run("exec", "reader", "touch", "/data/x").status == 1
    engine.ok("rm", "-f", "writer", "reader")
    assert names(engine) == ["shared"]


def test_volume_is_made_with_what_mount_says(engine: Engine) -> None:
    spec = "type=volume,source=mine,target=/data,volume-label=project=site,volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    engine.ok("run", "--rm", "--mount", f'{spec},"volume-opt=o=size=1m,mode=700"', "box", "true")
    made = volume(engine, "mine")
    assert made["labels"] == {"project": "site"}
    assert made["options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}
    assert made["mountpoint"] is None  # nobody uses it now


def test_anonymous_volume_has_a_random_name_and_goes_with_rm(engine: Engine) -> None:
    start(engine, "kept", "-v", "/data")
    (name,) = names(engine)
    assert len(name) == 64
    engine.ok("exec", "kept", "touch", "/data/file")
    assert (data_of(engine, name) / "file").exists()
    engine.ok("run", "--rm", "-v", "/data", "-v", "named:/named", "box", "touch", "/data/x")
    assert names(engine) == [name, "named"]
    engine.ok("rm", "-f", "kept")
    assert names(engine) == [name, "named"]
    assert engine.ok("volume", "prune", "--force").splitlines()[0] == name
    assert names(engine) == ["named"]


def test_rm_with_volumes_takes_anonymous_ones_along(engine: Engine) -> None:
    engine.ok("run", "--name", "box1", "-v", "/data", "-v", "named:/named", "box", "true")
    engine.ok("rm", "-v", "box1")
    assert names(engine) == ["named"]


def test_tmpfs_is_in_memory_and_gone_with_the_container(engine: Engine) -> None:
    found = engine.ok(
        "run", "--rm", "--tmpfs", "/scratch:size=2m,mode=1770", "box", "sh", "-c", "touch /scratch/x; cat /proc/mounts"
    )
    (line,) = (line for line in found.splitlines() if line.split()[1] == "/scratch")
    assert line.split()[2] == "tmpfs"
    assert {"nosuid", "nodev", "noexec", "size=2048k", "mode=1770"} <= set(line.split()[3].split(","))
    assert engine.leftovers() == []


def test_tmpfs_by_mount_takes_size_and_mode(engine: Engine) -> None:
    spec = "type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=0700,readonly"
    found = engine.ok("run", "--rm", "--mount", spec, "box", "cat", "/proc/mounts")
    (line,) = (line for line in found.splitlines() if line.split()[1] == "/scratch")
    assert {"ro", "size=1024k", "mode=700"} <= set(line.split()[3].split(","))


def test_read_only_mounts_cannot_be_written(engine: Engine, host: Path) -> None:
    for option in (("-v", f"{host}:/m:ro"), ("--mount", f"type=bind,src={host},dst=/m,ro"), ("-v", "vol:/m:ro")):
        refused = engine.run("run", "--rm", *option, "box", "touch", "/m/x")
        assert "Read-only file system" in refused.stderr
    assert os.listdir(host) == ["of-host"]


def test_writable_volume_under_a_read_only_root(engine: Engine) -> None:
    engine.ok("run", "--rm", "--read-only", "-v", "vol:/data", "box", "touch", "/data/x")
    assert engine.run("run", "--rm", "--read-only", "-v", "vol:/data", "box", "touch", "/x").status != 0


def test_words_that_mean_nothing_on_linux_are_taken(engine: Engine, host: Path) -> None:
    for word in ("consistent", "delegated", "cached", "z", "Z"):
        assert engine.ok("run", "--rm", "-v", f"{host}:/m:{word}", "box", "cat", "/m/of-host") == "host\n"


def test_mounts_lie_in_each_other(engine: Engine, host: Path) -> None:
    (host / "inner").mkdir()
    options = ("-v", "inner:/a/inner", "-v", f"{host}:/a")
    engine.ok("run", "--rm", *options, "box", "sh", "-c", "cat /a/of-host && touch /a/inner/x")
    assert (data_of(engine, "inner") / "x").exists()
    assert os.listdir(host / "inner") == []


def test_two_mounts_on_one_target_are_refused(engine: Engine, host: Path) -> None:
    refused = engine.run("run", "--rm", "-v", f"{host}:/m", "-v", "vol:/m/", "box", "true")
    assert refused.status == 125
    assert "/m: two mounts have this target" in refused.stderr
    assert names(engine) == []


def test_wrong_specification_says_what_was_expected(engine: Engine) -> None:
    refused = engine.run("run", "--rm", "-v", "./here:/m", "box", "true")
    assert refused.status == 125
    assert "the source './here' is a relative path; give the host's path from / on" in refused.stderr


# -- image content against what is mounted -------------------------------------------------------------------------------------


@pytest.fixture
def full(engine: Engine) -> str:
    """An image that has something in /data."""
    engine.add_image("full", {"data/of-image": "image\n", "data/dir/file": "deep\n"})
    return "full"


@pytest.mark.parametrize("image_has_content", [False, True])
@pytest.mark.parametrize("outside_has_content", [False, True])
@pytest.mark.parametrize("kind", ["volume", "bind"])
def test_what_is_visible(
    engine: Engine, full: str, tmp_path: Path, kind: str, outside_has_content: bool, image_has_content: bool
) -> None:
    if kind == "volume":
        engine.ok("volume", "create", "vol")
        outside, source = data_of(engine, "vol"), "vol"
    else:
        outside = tmp_path / "outside"
        outside.mkdir()
        source = str(outside)
    if outside_has_content:
        (outside / "of-outside").write_text("outside\n")
    image = full if image_has_content else "box"
    listed = engine.ok("run", "--rm", "-v", f"{source}:/data", image, "ls", "/data").split()
    copies = kind == "volume" and image_has_content and not outside_has_content
    expected = ["of-outside"] if outside_has_content else ["dir", "of-image"] if copies else []
    assert listed == expected
    assert sorted(os.listdir(outside)) == expected  # and it stays after the container


def test_content_is_copied_once_and_never_again(engine: Engine, full: str) -> None:
    engine.ok("run", "--rm", "-v", "vol:/data", full, "rm", "-r", "/data/of-image", "/data/dir")
    assert engine.ok("run", "--rm", "-v", "vol:/data", full, "ls", "/data") == ""


def test_nocopy_copies_nothing(engine: Engine, full: str) -> None:
    for options in (("-v", "vol:/data:nocopy"), ("--mount", "source=two,target=/data,volume-nocopy")):
        assert engine.ok("run", "--rm", *options, full, "ls", "/data") == ""


def test_copy_keeps_owners_and_modes(engine: Engine, full: str) -> None:
    engine.ok("run", "--name", "maker", full, "sh", "-c", "mkdir -m 1770 /data/own")
    engine.ok("commit", "maker", "kept")
    engine.ok("run", "--rm", "-v", "vol:/data", "kept", "true")
    assert (data_of(engine, "vol") / "own").stat().st_mode & 0o7777 == 0o1770


def test_volumes_that_an_image_declares_are_anonymous_ones(engine: Engine) -> None:
    engine.add_image("declares", {"data/of-image": "image\n"}, {"Volumes": {"/data": {}, "/empty/": {}}})
    assert engine.ok("run", "--name", "box1", "declares", "cat", "/data/of-image") == "image\n"
    assert len(names(engine)) == 2
    assert {volume(engine, name)["anonymous"] for name in names(engine)} == {True}
    engine.ok("run", "--rm", "-v", "named:/data", "declares", "true")
    assert len(names(engine)) == 3
    engine.ok("rm", "-v", "box1")
    assert names(engine) == ["named"]


# -- volumes-from ---------------------------------------------------------------------------------------------------------------


def test_volumes_from_takes_every_mount_of_another_container(engine: Engine, host: Path) -> None:
    mounts = ("-v", f"{host}:/bind", "-v", "vol:/vol", "-v", "/anon", "--tmpfs", "/scratch")
    engine.ok("run", "--name", "first", *mounts, "box", "touch", "/anon/x", "/vol/y")
    script = "cat /bind/of-host; ls /anon /vol; touch /scratch/z"
    found = engine.ok("run", "--rm", "--volumes-from", "first", "box", "sh", "-c", script)
    assert found.split() == ["host", "/anon:", "x", "/vol:", "y"]
    assert len(names(engine)) == 2  # --rm has left the other's anonymous volume alone


def test_volumes_from_can_be_read_only_and_gives_way_to_what_is_asked_for(engine: Engine, host: Path) -> None:
    engine.ok("run", "--name", "first", "-v", "vol:/vol", "-v", "other:/other", "box", "touch", "/vol/y")
    refused = engine.run("run", "--rm", "--volumes-from", "first:ro", "box", "touch", "/vol/x")
    assert "Read-only" in refused.stderr
    found = engine.ok("run", "--rm", "--volumes-from", "first", "-v", f"{host}:/vol", "box", "ls", "/vol")
    assert found == "of-host\n"


def test_volumes_from_nobody_is_named(engine: Engine) -> None:
    refused = engine.run("run", "--rm", "--volumes-from", "nobody", "box", "true")
    assert refused.status == 125
    assert "nobody: no such container" in refused.stderr


# -- in use ------------------------------------------------------------------------------------------------------------------


def test_volume_of_a_container_stays_and_the_error_says_whose(engine: Engine) -> None:
    engine.ok("run", "--name", "user1", "-v", "vol:/data", "box", "true")
    refused = engine.run("volume", "rm", "vol")
    assert refused.status == 1
    assert "vol: the volume is in use by container user1" in refused.stderr
    assert engine.ok("volume", "prune", "--all", "--force").splitlines()[-1].startswith("freed")
    assert names(engine) == ["vol"]
    engine.ok("rm", "user1")
    assert engine.ok("volume", "rm", "vol") == "vol\n"


def test_mounted_volume_is_unmounted_after_the_last_container(engine: Engine) -> None:
    engine.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "scratch")
    start(engine, "first", "-v", "scratch:/data")
    start(engine, "second", "-v", "scratch:/data")
    engine.ok("exec", "first", "touch", "/data/x")
    assert engine.ok("exec", "second", "ls", "/data") == "x\n"
    engine.ok("stop", "first")
    assert os.path.ismount(data_of(engine, "scratch"))
    engine.ok("stop", "second")
    assert not os.path.ismount(data_of(engine, "scratch"))


def test_killed_monitor_leaves_no_volume_mounted(engine: Engine) -> None:
    engine.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "scratch")
    start(engine, "box1", "--rm", "-v", "scratch:/data", "-v", "/anon")
    kill(engine.monitor_of(engine.container("box1")["id"]))
    assert engine.containers() == []
    assert not os.path.ismount(data_of(engine, "scratch"))
    assert names(engine) == ["scratch"]
    assert volume(engine, "scratch")["mounts"] == []


def test_overlay_volumes_let_containers_change_their_own_copies(engine: Engine, host: Path) -> None:
    for name in ("one", "two"):
        engine.ok("volume", "create", "--driver", "overlay", "-o", f"lower={host}", name)
    engine.ok("run", "--rm", "-v", "one:/data", "box", "sh", "-c", "echo changed > /data/of-host")
    assert engine.ok("run", "--rm", "-v", "two:/data", "box", "cat", "/data/of-host") == "host\n"
    assert engine.ok("run", "--rm", "-v", "one:/data", "box", "cat", "/data/of-host") == "changed\n"
    assert (host / "of-host").read_text() == "host\n"
    engine.ok("volume", "rm", "one", "two")


# -- parts of volumes ---------------------------------------------------------------------------------------------------------


def test_subpath_shows_a_part_of_the_volume(engine: Engine) -> None:
    engine.ok(
        "run", "--rm", "-v", "vol:/data", "box", "sh", "-c", "mkdir /data/part; echo in > /data/part/file; echo out > /data/top"
    )
    spec = "source=vol,target=/p,volume-subpath=part"
    assert engine.ok("run", "--rm", "--mount", spec, "box", "sh", "-c", "ls /p; touch /p/new") == "file\n"
    assert sorted(os.listdir(data_of(engine, "vol") / "part")) == ["file", "new"]
    assert engine.ok("run", "--rm", "--mount", "source=vol,target=/p,volume-subpath=top", "box", "cat", "/p") == "out\n"
    assert engine.leftovers() == []


def test_subpath_that_leaves_the_volume_is_refused(engine: Engine, host: Path) -> None:
    engine.ok("volume", "create", "vol")
    (data_of(engine, "vol") / "link").symlink_to(host)
    refused = engine.run("run", "--rm", "--mount", "source=vol,target=/p,volume-subpath=link", "box", "cat", "/p/of-host")
    assert refused.status == 125
    assert "leads out of the volume" in refused.stderr
    assert engine.leftovers() == []


def test_removing_a_container_never_removes_what_its_subpath_showed(engine: Engine) -> None:
    engine.ok("run", "--rm", "-v", "vol:/data", "box", "sh", "-c", "mkdir /data/part; touch /data/part/file")
    start(engine, "box1", "--mount", "source=vol,target=/p,volume-subpath=part")
    kill(engine.monitor_of(engine.container("box1")["id"]))
    engine.ok("rm", "-f", "box1")
    assert os.listdir(data_of(engine, "vol") / "part") == ["file"]
    assert engine.leftovers() == []


# -- propagation ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory on a shared mount of its own."""
    shared = tmp_path / "shared"
    shared.mkdir()
    mount(os.fsencode(shared), os.fsencode(shared), b"", MS_BIND, b"")
    mount(b"", os.fsencode(shared), b"", MS_SHARED, b"")
    for name in ("outside", "inside"):
        (shared / name).mkdir()
    yield shared
    for place in (shared / "outside", shared / "inside"):
        if os.path.ismount(place):
            umount(os.fsencode(place), 0)
    umount(os.fsencode(shared), 0)


def mounted_in(engine: Engine, name: str, place: str) -> bool:
    return any(line.split()[1] == place for line in engine.ok("exec", name, "cat", "/proc/mounts").splitlines())


@pytest.mark.parametrize(
    ("propagation", "outside_appears_inside", "inside_appears_outside"),
    [
        ("", False, False),
        ("private", False, False),
        ("rprivate", False, False),
        ("slave", True, False),
        ("rslave", True, False),
        ("shared", True, True),
        ("rshared", True, True),
    ],
)
def test_propagation(
    engine: Engine, shared: Path, propagation: str, outside_appears_inside: bool, inside_appears_outside: bool
) -> None:
    mode = f":{propagation}" if propagation else ""
    start(engine, "box1", "-v", f"{shared}:/m{mode}")
    mount(b"tmpfs", os.fsencode(shared / "outside"), b"tmpfs", 0, b"")
    assert mounted_in(engine, "box1", "/m/outside") == outside_appears_inside
    pid = str(engine.container("box1")["pid"])
    output(["nsenter", "--mount", "--target", pid, "--root", "--", "/bin/busybox", "mount", "-t", "tmpfs", "tmpfs", "/m/inside"])
    assert mounted_in(engine, "box1", "/m/inside")
    assert os.path.ismount(shared / "inside") == inside_appears_outside
    engine.ok("rm", "-f", "box1")


@pytest.mark.parametrize("propagation", ["shared", "rshared", "slave", "rslave"])
def test_source_that_propagates_nothing_is_refused(engine: Engine, host: Path, propagation: str) -> None:
    mount(os.fsencode(host), os.fsencode(host), b"", MS_BIND, b"")
    mount(b"", os.fsencode(host), b"", MS_PRIVATE, b"")
    try:
        refused = engine.run("run", "--rm", "-v", f"{host}:/m:{propagation}", "box", "true")
    finally:
        umount(os.fsencode(host), 0)
    assert refused.status == 125
    assert f"mount --make-shared {host}" in refused.stderr


def test_what_is_mounted_below_a_source_comes_along_unless_told_not_to(engine: Engine, host: Path) -> None:
    (host / "sub").mkdir()
    mount(b"tmpfs", os.fsencode(host / "sub"), b"tmpfs", 0, b"")
    try:
        (host / "sub/file").touch()
        assert engine.ok("run", "--rm", "-v", f"{host}:/m", "box", "ls", "/m/sub") == "file\n"
        spec = f"type=bind,source={host},target=/m,bind-recursive=disabled"
        assert engine.ok("run", "--rm", "--mount", spec, "box", "ls", "/m/sub") == ""
    finally:
        umount(os.fsencode(host / "sub"), 0)
