"""fuse-unionfs and mount.unionfs with the arguments that container engines and mount(8) give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import BIN, Layers, Programs
from tests.mounts import is_mounted
from tests.programs import run


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def writable(layers: Layers, work: Path) -> str:
    return f"lowerdir={layers.top}:{layers.base},upperdir={layers.upper},workdir={work}"


def unmount(layers: Layers) -> None:
    """As container engines do."""
    run(["fusermount3", "-u", layers.merged])
    assert not is_mounted(layers.merged)


@pytest.mark.parametrize("end", ["", ",,volatile", ",", ",private"])
def test_podmans_writable_mount(programs: Programs, layers: Layers, work: Path, end: str) -> None:
    ended = programs.run("fuse-unionfs", "-o", writable(layers, work) + end, layers.merged)
    assert ended == (0, "", "")
    (layers.merged / "both").write_text("changed\n")
    assert (layers.upper / "both").read_text() == "changed\n"
    unmount(layers)


def test_volatile_layer_is_mounted_again_as_by_fuse_overlayfs(programs: Programs, layers: Layers, work: Path) -> None:
    for _ in range(2):
        assert programs.run("fuse-unionfs", "-o", f"{writable(layers, work)},volatile", layers.merged) == (0, "", "")
        unmount(layers)
    assert list((work / "work").iterdir()) == []


def test_read_only_mount_for_diff_and_commit(programs: Programs, layers: Layers) -> None:
    assert programs.run("fuse-unionfs", "-o", f"lowerdir={layers.top}:{layers.base}", layers.merged) == (0, "", "")
    assert (layers.merged / "both").read_text() == "top\n"
    unmount(layers)


def test_relative_layers_as_podman_gives_them(programs: Programs, layers: Layers, work: Path) -> None:
    options = f"lowerdir=top:base,upperdir=upper,workdir={work}"
    assert programs.run("fuse-unionfs", "-o", options, "merged", cwd=layers.top.parent) == (0, "", "")
    unmount(layers)


@pytest.mark.parametrize("option", ["uidmapping=0:1", "squash_to_uid=root", "xattr_permissions=3"])
def test_a_wrong_value_is_refused_not_ignored(programs: Programs, layers: Layers, work: Path, option: str) -> None:
    ended = programs.run("fuse-unionfs", "-o", f"{writable(layers, work)},{option}", layers.merged)
    assert ended.status == 2
    assert ended.stderr.startswith(f"fuse-unionfs: {option}: bad value; give ")
    assert not is_mounted(layers.merged)


def test_unknown_options_are_ignored_with_a_warning(programs: Programs, layers: Layers, work: Path) -> None:
    ended = programs.run("fuse-unionfs", "-o", f"{writable(layers, work)},context=x,frob=1", layers.merged)
    assert ended == (0, "", "fuse-unionfs: context=x: unknown option, ignored\nfuse-unionfs: frob=1: unknown option, ignored\n")
    unmount(layers)


def test_options_and_source_in_any_order(programs: Programs, layers: Layers, work: Path) -> None:
    upper, rest = f"upperdir={layers.upper},workdir={work}", f"lowerdir={layers.top}:{layers.base},dev,suid"
    assert programs.run("fuse-unionfs", "overlay", "-o", upper, layers.merged, "-o", rest) == (0, "", "")
    assert f"overlay {layers.merged} fuse.unionfs" in Path("/proc/self/mounts").read_text()
    unmount(layers)


def test_containerds_way_through_mount_fuse3(programs: Programs, layers: Layers, work: Path) -> None:
    options = f"workdir={work},upperdir={layers.upper},lowerdir={layers.top}:{layers.base},dev,suid"
    command = ["mount.fuse3", "overlay", layers.merged, "-o", options, "-t", "fuse-unionfs"]
    run(command, environment=programs.environment)
    assert (layers.merged / "both").read_text() == "top\n"
    unmount(layers)


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_wrong_number_of_arguments(programs: Programs, arguments: list[str]) -> None:
    ended = programs.run("fuse-unionfs", "-o", "lowerdir=/", *arguments)
    assert ended.status == 2
    assert ended.stderr.startswith("fuse-unionfs: one mount point is needed, ")


# -- mount.unionfs ----------------------------------------------------------------------------------------------------------


def test_mount_helper_as_mount8_calls_it(programs: Programs, layers: Layers) -> None:
    options = f"rw,noexec,noauto,_netdev,x-systemd.automount,lowerdir={layers.top}:{layers.base},upperdir={layers.upper}"
    assert programs.run("mount.unionfs", "my-union", layers.merged, "-n", "-o", options, "-t", "unionfs") == (0, "", "")
    assert f"my-union {layers.merged} fuse.unionfs" in Path("/proc/self/mounts").read_text()
    programs.unionfs("umount", layers.merged)


def test_fake_mount_checks_but_does_not_mount(programs: Programs, layers: Layers) -> None:
    assert programs.run("mount.unionfs", "union", layers.merged, "-f", "-o", f"lowerdir={layers.base}") == (0, "", "")
    assert not is_mounted(layers.merged)
    ended = programs.run("mount.unionfs", "union", layers.merged, "-f", "-o", f"lowerdir={layers.base}/missing")
    assert ended.status == 32


def test_mount_helper_fails_with_the_statuses_of_mount8(programs: Programs, layers: Layers) -> None:
    usage = programs.run("mount.unionfs", "union", layers.merged, "-o", f"lowerdir={layers.base},frob")
    assert (usage.status, usage.stderr) == (1, "mount.unionfs: frob: unknown option; docs/commands.md lists all options\n")
    failure = programs.run("mount.unionfs", "union", layers.merged, "-o", "lowerdir=/missing")
    assert failure.status == 32
    assert failure.stderr.startswith("mount.unionfs: /missing: lower: ")


def test_sloppy_mount_ignores_unknown_options(programs: Programs, layers: Layers) -> None:
    assert programs.run("mount.unionfs", "union", layers.merged, "-s", "-o", f"lowerdir={layers.base},frob") == (0, "", "")
    programs.unionfs("umount", layers.merged)


def test_mount_t_unionfs_and_a_line_of_fstab(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    # mount(8) looks for helpers in /sbin only; a private mount namespace has ours there.
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    (helpers / "mount.unionfs").symlink_to(BIN / "mount.unionfs")
    (tmp_path / "fstab").write_text(
        f"union {layers.merged} unionfs noauto,noexec,lowerdir={layers.top}:{layers.base},upperdir={layers.upper} 0 0\n"
    )
    script = f"""
        mount -t overlay -o lowerdir={helpers}:$(realpath /sbin) none $(realpath /sbin)
        mount -t unionfs union {layers.merged} -o ro,lowerdir={layers.base}
        cat {layers.merged}/both
        umount {layers.merged}
        mount -T {tmp_path}/fstab {layers.merged}
        echo changed > {layers.merged}/both
        unionfs umount {layers.merged}
    """
    assert programs.in_namespaces(script) == (0, "base\n", "")
    assert (layers.upper / "both").read_text() == "changed\n"
