"""What a user's mount gives to whom: set-id programs and devices, files of others, other users."""

from __future__ import annotations

import os
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from tests.behaviour.layers import File, Special, build
from tests.mounts import DIRECT, PYFUSE3, Backend, run_unionfs
from tests.programs import output
from tests.rootless.test_user import as_user
from unionfs.linux.mountinfo import read_mountinfo

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")

NULL = os.makedev(1, 3)


def as_nobody(directory: Path, program: str) -> str:
    """Python statements run by another user in ``directory`` (``top``); what they print."""
    become = f"""
import os
os.setgroups([]); os.setgid(65534)
os.chdir({os.fspath(directory)!r})
os.setuid(65534)
def tried(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return type(error).__name__
"""
    return output([sys.executable, "-c", become + textwrap.dedent(program)])


def test_users_mount_has_neither_set_id_nor_devices(tmp_path: Path) -> None:
    script = """
        unionfs mount -l lower -u upper merged
        grep ' /mnt/home/merged ' /proc/self/mounts | cut -d' ' -f4
        unionfs umount merged
        unionfs mount -o suid,dev -l lower -u upper merged || echo refused
        ! grep ' /mnt/home/merged ' /proc/self/mounts | grep -v nosuid,nodev
    """
    ended = as_user(tmp_path, script)
    assert ended.status == 0, ended
    assert ended.stdout.startswith("rw,nosuid,nodev,")


def test_mount_of_a_user_is_made_without_allow_other(tmp_path: Path) -> None:
    # Then the kernel refuses everybody else, root too (fs/fuse/dir.c, fuse_allow_current_process), whatever the modes say.
    script = """
        chmod 777 lower; chmod 666 lower/file
        unionfs mount -l lower -u upper merged
        grep ' /mnt/home/merged ' /proc/self/mounts | grep -o allow_other || echo for the user alone
        cat merged/file
        unionfs umount merged
    """
    ended = as_user(tmp_path, script)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "for the user alone\nlower\n", "")


def test_link_of_a_layer_is_followed_by_the_client_with_the_clients_rights(tmp_path: Path) -> None:
    script = """
        ln -s /etc/shadow lower/shadow
        unionfs mount -l lower -u upper merged
        cat merged/shadow 2> /dev/null || echo no
        echo x 2> /dev/null > merged/shadow || echo no
        unionfs umount merged
    """
    ended = as_user(tmp_path, script)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "no\nno\n", "")


@pytest.mark.parametrize("backend", [DIRECT, PYFUSE3], ids=lambda backend: backend.name)
def test_kernel_checks_the_modes_of_a_mount_that_is_for_all(tmp_path: Path, backend: Backend) -> None:
    """default_permissions: the daemon, which is root, asks no more of a request than that it came."""
    build(tmp_path / "lower", {"open": b"open", "closed": File(b"closed", mode=0o600), "own": File(b"own", uid=65534, gid=65534)})
    build(tmp_path / "lower", {"d/f": b"f"})
    for name in ("upper", "work", "merged"):
        build(tmp_path / name, {})
    (tmp_path / "lower/d").chmod(0o700)
    backend.mount([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work", tmp_path / "merged")
    try:
        (line,) = [each for each in read_mountinfo() if each.mount_point == tmp_path / "merged"]
        assert {"default_permissions", "allow_other"} <= set(line.super_options.split(","))
        said = as_nobody(
            tmp_path / "merged",
            """
            print(open("open").read(), tried(open, "closed"), tried(os.listdir, "d"), tried(os.stat, "d/f"))
            print(tried(open, "open", "w"), tried(os.unlink, "open"), tried(os.mkdir, "new"), tried(os.chmod, "open", 0o777))
            print(tried(os.chown, "own", 0, 0), tried(os.setxattr, "open", "user.x", b""), tried(os.truncate, "closed", 0))
            os.chmod("own", 0o600)
            print(tried(os.rename, "own", "other"), tried(os.link, "closed", "another"), tried(os.utime, "closed"))
            """,
        )
        no = "PermissionError"
        assert said == f"open {no} {no} {no}\n" + f"{no} {no} {no} {no}\n" + f"{no} {no} {no}\n" + f"{no} {no} {no}\n"
    finally:
        backend.umount(tmp_path / "merged")


@pytest.mark.parametrize(("options", "uid", "opened"), [("", "0", "TextIOWrapper"), ("nosuid,nodev", "65534", "str")])
def test_roots_mount_honours_set_id_and_devices_as_it_is_mounted(tmp_path: Path, options: str, uid: str, opened: str) -> None:
    device = Special(stat.S_IFCHR, NULL, mode=0o666)
    build(tmp_path / "lower", {"null": device, "cat": File(Path("/bin/cat").read_bytes(), mode=0o4755)})
    for name in ("upper", "merged"):
        build(tmp_path / name, {})
    merged = tmp_path / "merged"
    run_unionfs(["mount", "-l", tmp_path / "lower", "-u", tmp_path / "upper", *(("-o", options) if options else ()), merged])
    try:
        said = as_nobody(
            merged,
            """
            print(type(tried(open, "null")).__name__, flush=True)
            os.execv("./cat", ["cat", "/proc/self/status"])
            """,
        )
        effective = next(line.split()[2] for line in said.splitlines() if line.startswith("Uid:"))
        assert (said.split()[0], effective) == (opened, uid)
    finally:
        run_unionfs(["umount", merged])


def test_writer_without_the_right_loses_set_id_bits(tmp_path: Path) -> None:
    build(tmp_path / "lower", {"program": File(b"old", mode=0o6777)})
    for name in ("upper", "merged"):
        build(tmp_path / name, {})
    run_unionfs(["mount", "-l", tmp_path / "lower", "-u", tmp_path / "upper", tmp_path / "merged"])
    try:
        as_nobody(tmp_path / "merged", "open('program', 'a').write('new')")
        assert stat.S_IMODE((tmp_path / "merged/program").stat().st_mode) == 0o777
        assert stat.S_IMODE((tmp_path / "upper/program").stat().st_mode) == 0o777
        assert stat.S_IMODE((tmp_path / "lower/program").stat().st_mode) == 0o6777
    finally:
        run_unionfs(["umount", tmp_path / "merged"])


def test_daemons_work_directory_is_closed(tmp_path: Path) -> None:
    """What is being copied up lies there with whatever it is, before it has its owner and mode."""
    build(tmp_path / "lower", {"f": File(b"secret", mode=0o600)})
    for name in ("upper", "merged", "work"):
        build(tmp_path / name, {})
    run_unionfs(["mount", "-l", tmp_path / "lower", "-u", tmp_path / "upper", "-w", tmp_path / "work", tmp_path / "merged"])
    try:
        (tmp_path / "merged/f").write_bytes(b"x")
        assert stat.S_IMODE((tmp_path / "work/work").stat().st_mode) & 0o077 == 0
    finally:
        run_unionfs(["umount", tmp_path / "merged"])
