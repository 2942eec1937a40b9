"""Runs a command as a user without any right: ``python -m tests.rootless.user SCRATCH COMMAND…``, started as root.

It has a mount namespace of its own, in which /dev/fuse is open to everybody, /etc/fuse.conf has user_allow_other, ``SCRATCH`` (a
directory) belongs to the user and is found at `HOME`, and whatever Python and the tests are made of can be reached.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from tests.mounts import mounts_under
from unionfs.linux.mount import MNT_DETACH, MS_BIND, UMOUNT_NOFOLLOW, mount, umount
from unionfs.linux.namespaces import enter_private_mount_namespace

USER = 65534
HOME = Path("/mnt/home")


def prepare(scratch: Path) -> None:
    """Make the namespace, seen by this process and its children only."""
    enter_private_mount_namespace()
    let_go_of_unions()
    os.umask(0)
    reveal([Path(sys.base_prefix), Path(sys.prefix), Path.cwd()])
    os.chown(scratch, USER, USER)
    home_fd = os.open(scratch, os.O_PATH)
    mount(b"none", b"/mnt", b"tmpfs", 0, b"mode=755")
    HOME.mkdir()
    bind(Path(f"/proc/self/fd/{home_fd}"), HOME)
    os.close(home_fd)
    device, configuration = HOME.with_name("fuse"), HOME.with_name("fuse.conf")
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    configuration.write_text("user_allow_other\n")
    bind(device, Path("/dev/fuse"))
    bind(configuration, Path("/etc/fuse.conf"))


def let_go_of_unions() -> None:
    """In a mount namespace of our own, detach the copies of other tests' unions: as long as we run they would keep the daemons
    of these from ending, and the kernel from using their uppers again."""
    types = ("fuse.unionfs", "overlay")
    unions = [each.mountpoint for each in mounts_under(Path("/")) if each.fstype in types and each.mountpoint != Path("/")]
    # The outer ones take the inner ones along; and no path leads through a union, which may not answer.
    for union in unions:
        if not any(other in union.parents for other in unions):
            with contextlib.suppress(FileNotFoundError):  # its mountpoint was removed, and the mount with it
                umount(os.fsencode(union), MNT_DETACH | UMOUNT_NOFOLLOW)


def reveal(paths: list[Path]) -> None:
    """Make directories reachable for everybody: what lies above them and is closed is covered by an empty one."""
    hidden: dict[Path, list[tuple[Path, int]]] = {}
    for path in paths:
        closed = next((above for above in reversed(path.parents) if not above.stat().st_mode & stat.S_IXOTH), None)
        if closed is not None:
            hidden.setdefault(closed, []).append((path, os.open(path, os.O_PATH)))
    for closed, insides in hidden.items():
        mount(b"none", os.fsencode(closed), b"tmpfs", 0, b"mode=755")
        for path, fd in insides:
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
            bind(Path(f"/proc/self/fd/{fd}"), path)


def bind(source: Path, target: Path) -> None:
    """Show ``source`` at ``target`` as well."""
    mount(os.fsencode(source), os.fsencode(target), b"", MS_BIND, b"")


if __name__ == "__main__":
    here = Path.cwd()
    prepare(Path(sys.argv[1]))
    os.umask(0o022)
    os.chdir(here)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    places = {"HOME": "", "TMPDIR": "", "UNIONFS_RUNTIME_DIR": "run", "UNIONFS_LOG_DIR": "log.d"}
    environment = {**os.environ, **{variable: str(HOME / name) for variable, name in places.items()}}
    os.execvpe(sys.argv[2], sys.argv[2:], environment)  # noqa: S606 - no shell is wanted
