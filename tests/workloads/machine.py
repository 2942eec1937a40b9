"""A Debian root filesystem that stands in a union: what it is made of, and how a program runs in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.behaviour.layers import WHITEOUT, Dir, Tree
from tests.behaviour.tree import Snapshot, differences
from tests.mounts import Backend

PACKAGES = "gcc,git,libc6-dev,make,python3,rsync"
"""What the root filesystem holds besides the essential packages."""

PROGRAM_TIMEOUT = 240.0
"""Seconds one program may take."""

# A process tree of its own: nothing that a program leaves in the background (git's gc, apt's helpers) survives it, and no
# mount of it shows outside, so that only the union itself is there to unmount.  The old root goes: copies of other tests' mounts
# below it would keep the daemons of these from ending as long as the program runs.
_ENTER = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c")
_IN_NEW_ROOT = (
    'cd "$0" && mount --bind /dev dev && mount -t proc proc proc && pivot_root . mnt && cd / && umount --lazy /mnt && exec "$@"'
)

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


def make_rootfs() -> Path:
    """The root filesystem, made once on this machine and kept; to be used as a lower only."""
    script = Path(__file__).parents[2] / "scripts/rootfs"
    done = subprocess.run([script, "--debian-only", "--include", PACKAGES], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


SITE_LAYER: Tree = {
    "etc/motd": b"This motd comes from the second layer.\n",
    "etc/issue.net": WHITEOUT,
    "usr/share/doc/git": Dir(xattrs={"trusted.overlay.opaque": b"y"}),
    "srv/site/index.html": b"<p>second layer</p>\n",
}
"""A layer over the root filesystem: one file changed, one hidden by a whiteout, one directory made opaque, one new."""


class Machine:
    """A root filesystem in a mounted union, and its layers."""

    def __init__(self, backend: Backend, lowers: list[Path], top: Path) -> None:
        self.backend = backend
        self.lowers = lowers
        self.root, self.upper, self.work = top / "merged", top / "upper", top / "work"
        for directory in (self.root, self.upper, self.work):
            directory.mkdir()

    def mount(self) -> None:
        self.backend.mount(self.lowers, self.upper, self.work, self.root)

    def umount(self) -> None:
        self.backend.umount(self.root)

    def run(self, *command: str, directory: str = "/") -> str:
        """Run a program in the root filesystem and return its standard output.

        Its exit status must be 0: otherwise the test fails with all that it wrote."""
        done = subprocess.run(
            [*_ENTER, _IN_NEW_ROOT, self.root, "env", "-C", directory, *command],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROGRAM_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def path(self, inside: str) -> Path:
        """The host's path of an absolute path in the root filesystem."""
        return self.root / inside.lstrip("/")

    def make_directory(self, inside: str) -> Path:
        """A new directory for a test of its own."""
        directory = self.path(inside)
        directory.mkdir(parents=True)
        return directory

    def changed_by_remount(self) -> list[str]:
        """Unmount and mount again: how the tree then differs from what it was, one line each."""
        before = Snapshot.of(self.root)
        self.umount()
        self.mount()
        return differences(before, Snapshot.of(self.root))
