"""The ``unionfs`` program as run by a user who is not root, on a store in his home."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.rootless.test_behaviour import ROOT
from tests.store.tars import directory, entry, symlink, tar_of

TIMEOUT = 60.0
"""Seconds; what takes longer hangs."""

_APPLETS = "sh cat ls id sleep echo chown chmod stat touch rm mkdir head wc ps kill hostname env true test"
_USERS = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
_GROUPS = b"root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n"

_PRELUDE = r"""
cd $HOME
store=$XDG_DATA_HOME/unionfs
query() { $PYTHON -c "import json, sys; [print($1) for each in json.load(sys.stdin)]"; }
monitor() { $PYTHON -c "import sqlite3; print(*sqlite3.connect('file:$store/store.db?mode=ro', uri=True).execute(
    \"SELECT json_extract(options, '$.monitor') FROM containers WHERE name = '$1'\").fetchone())"; }
daemons() { ls run | sed -n 's/^\([0-9]*\)-[0-9]*$/\1/p'; }
first() { unionfs ps --json | query "each['name'], each['pid']" | sed -n "s/^$1 //p"; }
gone() {
    tries=0
    while [ -d /proc/$1 ] && ! grep -q '^State:.Z' /proc/$1/status; do
        tries=$((tries + 1))
        [ $tries -lt 1000 ] || { echo "process $1 does not end" >&2; exit 99; }
        sleep 0.02
    done
}
left() {
    for directory in containers snapshots staging; do
        [ ! -d $store/$directory ] || ls $store/$directory
    done
}
"""
"""``query EXPRESSION``: of each object in a list in JSON; ``monitor NAME``, ``first NAME``, ``daemons``: process ids;
``gone PID`` waits for its end; ``left``: what containers leave."""


class Ended(NamedTuple):
    """How a script ended."""

    status: int
    stdout: str
    stderr: str


def base_image() -> bytes:
    """A root filesystem of busybox with a file of another owner, as a tar."""
    return tar_of(
        *(directory(name) for name in ("bin", "etc")),
        directory("tmp", mode=0o1777),
        entry("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in _APPLETS.split()),
        entry("etc/passwd", _USERS),
        entry("etc/group", _GROUPS),
        entry("owned", b"x\n", mode=0o640, uid=1000, gid=50),
        entry("plain", b"no program\n"),
    )


class User:
    """Somebody with subordinate ids (``has_ids``), or without."""

    def __init__(self, home: Path, *, has_ids: bool = True) -> None:
        home.mkdir()
        (home / "base.tar").write_bytes(base_image())
        self.home = home
        self.mark = f"/mnt/home/data-{os.getpid()}-{home.parent.name}"
        self._module = "tests.dropin.rootless_user" if has_ids else "tests.rootless.user"

    def run(self, script: str, **environment: str) -> Ended:
        """Run shell commands to their end, which includes that of their stdout and stderr; in a home with ``base.tar``."""
        done = subprocess.run(
            [sys.executable, "-m", self._module, self.home, "sh", "-ec", _PRELUDE + script],
            cwd=ROOT,
            env={
                **{name: value for name, value in os.environ.items() if name != "UNIONFS_ROOT"},
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHON": sys.executable,
                "PYTHONDONTWRITEBYTECODE": "1",
                "XDG_DATA_HOME": self.mark,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def ok(self, script: str, **environment: str) -> str:
        """The same where it shall succeed without complaint, and leave no process; what it printed."""
        ended = self.run(script, **environment)
        assert (ended.status, ended.stderr) == (0, ""), ended.stdout + ended.stderr
        deadline = time.monotonic() + TIMEOUT
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)  # between two looks: a daemon ends after its mount has gone
        return ended.stdout

    def processes(self) -> dict[int, str]:
        """Those that have the store in their environment: all that we start, containers not."""
        mark = f"XDG_DATA_HOME={self.mark}".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_bytes().decode().replace("\0", " ")
        return found

    def end_all(self) -> None:
        """Remove the containers of a test that failed half-way, and end what serves nobody any more."""
        if self.processes():
            self.run("unionfs ps -aq | while read id; do unionfs rm -f $id; done")
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
