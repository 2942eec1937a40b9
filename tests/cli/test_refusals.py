"""Bad input gets one clear line and an exit status before anything is mounted.

Every single check is tested in tests/mounter/test_checks.py; here it is shown that what they say reaches the user.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, Layers, Programs
from tests.mounts import mounts_under


@pytest.fixture(autouse=True)
def _nothing_is_mounted(tmp_path: Path, programs: Programs) -> Iterator[None]:
    yield
    assert list(mounts_under(tmp_path)) == []
    assert not programs.registry.exists() or list(programs.registry.iterdir()) == []


def test_missing_layer(programs: Programs, layers: Layers) -> None:
    line = programs.refusal("mount", "-l", layers.base, "-l", layers.base / "missing", layers.merged)
    assert line == f"{layers.base}/missing: lower: no such file or directory; make it, or correct the path"


def test_layer_that_is_a_file(programs: Programs, layers: Layers) -> None:
    line = programs.refusal("mount", "-l", layers.base / "both", layers.merged)
    assert line == f"{layers.base}/both: lower: not a directory; give a directory"


def test_no_lower(programs: Programs, layers: Layers) -> None:
    line = programs.refusal("mount", "-u", layers.upper, layers.merged, status=2)
    assert line.startswith("lowerdir: no lower layer given; ")


def test_layer_listed_twice(programs: Programs, layers: Layers) -> None:
    assert "given twice as lower" in programs.refusal("mount", "-l", layers.base, "-l", layers.base, layers.merged)


def test_work_on_another_filesystem(programs: Programs, layers: Layers) -> None:
    assert "not on the same mount as the upper" in programs.refusal("mount", "-w", "/dev", *layers.arguments)


def test_mount_point_inside_a_layer(programs: Programs, layers: Layers) -> None:
    (layers.base / "mnt").mkdir()
    line = programs.refusal("mount", "-l", layers.base, layers.base / "mnt")
    assert line == f"{layers.base}/mnt: mount point lies inside the lower {layers.base}; mount outside of all layers"


def test_layer_inside_the_mount_point(programs: Programs, layers: Layers) -> None:
    (layers.merged / "lower").mkdir()
    line = programs.refusal("mount", "-l", layers.merged / "lower", layers.merged)
    assert line.startswith(f"{layers.merged}/lower: lower lies inside the mount point")


def test_mount_point_that_is_missing_or_a_file(programs: Programs, layers: Layers) -> None:
    assert "no such file or directory; make the directory first" in programs.refusal(
        "mount", "-l", layers.base, layers.top / "missing"
    )
    assert "is not a directory" in programs.refusal("mount", "-l", layers.base, layers.top / "both")


def test_mount_point_where_a_union_is_mounted_already(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", *layers.arguments)
    line = programs.refusal("mount", "-l", layers.base, layers.merged)
    assert line.startswith(f"{layers.merged}: a union is mounted there already; unmount it first")
    programs.unionfs("umount", layers.merged)


@pytest.mark.parametrize("taken", ["upper", "work"])
def test_upper_or_work_in_use_by_another_union(programs: Programs, layers: Layers, tmp_path: Path, taken: str) -> None:
    for name in ("merged2", "other", "work"):
        (tmp_path / name).mkdir()
    programs.unionfs("mount", "-w", tmp_path / "work", *layers.arguments)
    upper = layers.upper if taken == "upper" else tmp_path / "other"
    work = ["-w", tmp_path / "work"] if taken == "work" else []
    line = programs.refusal("mount", "-l", layers.base, "-u", upper, *work, tmp_path / "merged2")
    assert line.startswith(f"{tmp_path / taken}: in use by another union; unmount that one (unionfs ls shows them)")
    programs.unionfs("umount", layers.merged)


def test_a_refused_mount_leaves_the_default_work_directory_of_the_living_one_alone(
    programs: Programs, layers: Layers, tmp_path: Path
) -> None:
    (tmp_path / "merged2").mkdir()
    programs.unionfs("mount", *layers.arguments)
    programs.refusal("mount", "-l", layers.base, "-u", layers.upper, tmp_path / "merged2")
    assert (tmp_path / ".upper.work/work").is_dir()
    (layers.merged / "both").write_text("changed")
    programs.unionfs("umount", layers.merged)


def test_a_mount_refused_by_the_lock_makes_no_work_directory(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    with subprocess.Popen(["flock", layers.upper, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"x")
        holder.stdin.flush()
        assert holder.stdout.read(1) == b"x"  # cat runs, so flock(1) has the lock
        assert "in use by another union" in programs.refusal("mount", *layers.arguments)
        holder.stdin.close()
    assert not (tmp_path / ".upper.work").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("frob", "frob: unknown option; "),
        ("ro,rw", "rw: contradicts an option before it; "),
        ("workdir=/w", "workdir: given without an upper; "),
        ("transport=pyfuse3,data_path=passthrough", "data_path=passthrough: not possible with transport=pyfuse3; "),
        ("nfs_export=on", "nfs_export=on: not supported; "),
    ],
)
def test_unknown_and_contradictory_options(programs: Programs, layers: Layers, options: str, line: str) -> None:
    assert programs.refusal("mount", "-l", layers.base, "-o", options, layers.merged, status=2).startswith(line)


def test_layers_both_as_flags_and_as_options(programs: Programs, layers: Layers) -> None:
    line = programs.refusal("mount", "-l", layers.base, "-o", f"lowerdir={layers.top}", layers.merged, status=2)
    assert line == "lowerdir: given both as -l and in -o; give the lowers in one of the two ways"


def test_unmounting_twice(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", *layers.arguments)
    programs.unionfs("umount", layers.merged)
    assert programs.refusal("umount", layers.merged) == f"{layers.merged}: not mounted; unionfs ls shows what is"


def test_a_refused_foreground_mount_says_the_same(programs: Programs, layers: Layers) -> None:
    line = programs.refusal("mount", "--foreground", "-l", layers.base / "missing", layers.merged)
    assert line == f"{layers.base}/missing: lower: no such file or directory; make it, or correct the path"


# -- the machine ------------------------------------------------------------------------------------------------------------


def in_private_namespace(programs: Programs, layers: Layers, preparation: str, *prefix: str) -> Ended:
    """Try to mount in a mount namespace of its own, after ``preparation`` (shell)."""
    script = f'{preparation}\nexec "$@"'
    return programs.run(
        "unionfs",
        "mount",
        *layers.arguments,
        prefix=["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", *prefix],
    )


def test_no_fuse_device(programs: Programs, layers: Layers) -> None:
    ended = in_private_namespace(programs, layers, "mount -t tmpfs none /dev")
    assert ended == Ended(
        1, "", "unionfs: /dev/fuse: no such device; load the kernel module (modprobe fuse), or give the container the device\n"
    )


def test_a_fuse_device_that_may_not_be_opened(programs: Programs, layers: Layers) -> None:
    # Owned by somebody else, and the right over others' files given up.
    preparation = (
        f"mount -t tmpfs none /dev; mknod -m 600 /dev/fuse c 10 229; chown 65534 /dev/fuse; chown 65534 {layers.upper.parent}"
    )
    ended = in_private_namespace(programs, layers, preparation, "setpriv", "--bounding-set=-dac_override,-dac_read_search")
    assert ended == Ended(
        1, "", "unionfs: /dev/fuse: permission denied; run as root, or let users have it (chmod 0666 /dev/fuse)\n"
    )


def test_no_right_to_mount(programs: Programs, layers: Layers) -> None:
    # Without the capability fusermount3 is tried, and has it neither.
    ended = in_private_namespace(programs, layers, "", "setpriv", "--bounding-set=-sys_admin")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"unionfs: {layers.merged}: ")
    assert "not permitted" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_log_that_cannot_be_written_is_told_before_mounting(programs: Programs, layers: Layers) -> None:
    line = programs.refusal("mount", "--log", layers.base / "both/log", *layers.arguments)
    assert line.startswith(f"{layers.base}/both: ")


def test_a_registry_that_others_can_write_to(programs: Programs, layers: Layers) -> None:
    programs.registry.mkdir()
    programs.registry.chmod(0o770)
    assert "others could change the registry of mounts" in programs.refusal("mount", *layers.arguments)
