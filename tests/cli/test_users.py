"""Mounting without being root of the machine: by fusermount3, and as root of a user namespace (as under rootless podman)."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Ended, Layers, Programs

_NOBODY = 65534


def test_a_user_mounts_by_fusermount3(programs: Programs, transport: str) -> None:
    # On a tmpfs, since a user may not be let near the directories of the test.  The user keeps one right, to read everything: the
    # interpreter and this program may lie where only root can read.
    script = f"""
        as_user() {{
            setpriv --reuid={_NOBODY} --regid={_NOBODY} --clear-groups \\
                --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"
        }}
        mount -t tmpfs none /mnt
        mkdir /mnt/lower /mnt/upper /mnt/merged /mnt/run
        echo base > /mnt/lower/file
        mknod -m 666 /mnt/fuse c 10 229
        mount --bind /mnt/fuse /dev/fuse
        chown -R {_NOBODY}:{_NOBODY} /mnt
        unset UNIONFS_RUNTIME_DIR
        export XDG_RUNTIME_DIR=/mnt/run UNIONFS_LOG_DIR=/mnt/log
        as_user unionfs mount --transport {transport} -l /mnt/lower -u /mnt/upper /mnt/merged
        as_user sh -c 'cat /mnt/merged/file; echo changed > /mnt/merged/file'
        cat /mnt/upper/file
        grep -c ' /mnt/merged fuse.unionfs rw,nosuid,nodev,.*user_id={_NOBODY}' /proc/self/mounts
        as_user unionfs ls --json | grep -c '"state": "mounted"'
        as_user unionfs umount /mnt/merged
        as_user unionfs ls --json
        ls /mnt/run/unionfs /mnt/log
    """
    ended = programs.in_namespaces(script)
    assert ended.stderr == ""
    assert ended == Ended(0, "base\nchanged\n1\n1\n[]\n/mnt/log:\n\n/mnt/run/unionfs:\n", "")


@pytest.mark.parametrize("program", ["unionfs mount", "fuse-unionfs"])
def test_root_of_a_user_namespace_mounts_by_itself(programs: Programs, layers: Layers, program: str) -> None:
    script = f"""
        {program} -o lowerdir={layers.top}:{layers.base},upperdir={layers.upper} {layers.merged}
        cat {layers.merged}/both
        echo changed > {layers.merged}/both
        fusermount3 -u {layers.merged}
    """
    assert programs.in_namespaces(script, "--user", "--map-root-user") == Ended(0, "top\n", "")
    assert (layers.upper / "both").read_text() == "changed\n"


def test_a_session_that_cannot_start_leaves_no_mount(programs: Programs, layers: Layers) -> None:
    # The kernel gives passthrough to root of the machine only, which is found out when the mount is there already.
    script = f"""
        unionfs mount --data-path passthrough -l {layers.base} {layers.merged} || echo status $?
        grep -c {layers.merged} /proc/self/mounts || echo nothing mounted
    """
    ended = programs.in_namespaces(script, "--user", "--map-root-user")
    assert (ended.status, ended.stdout) == (0, "status 1\n0\nnothing mounted\n")
    assert ended.stderr.startswith(f"unionfs: {layers.merged}: ")
    assert "passthrough" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert list(programs.registry.iterdir()) == []


def test_hundreds_of_layers(programs: Programs, layers: Layers) -> None:
    lowers = [layers.base / str(number) for number in range(600)]
    for lower in lowers:
        lower.mkdir()
        (lower / lower.name).touch()
        (lower / "name").write_text(lower.name)
    arguments = [argument for lower in lowers for argument in ("-l", lower)]
    programs.unionfs("mount", *arguments, layers.merged)
    assert {path.name for path in layers.merged.iterdir()} == {"name", *(lower.name for lower in lowers)}
    assert (layers.merged / "name").read_text() == "0"
    assert len(programs.ls()[0]["lowers"]) == 600
    programs.unionfs("umount", layers.merged)
