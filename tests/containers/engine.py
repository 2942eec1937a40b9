"""A store with small images, and the ``unionfs`` program run on it as a user runs it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tests import mounts, preloaded
from tests.programs import TIMEOUT, Ended, describe, run, started, wait_until
from unionfs.mounter.processes import is_running
from unionfs.store.image_config import new_config
from unionfs.store.leases import adding
from unionfs.store.reference import parse_reference
from unionfs.store.store import open_store

_APPLETS = "sh touch cat ls echo sleep id env pwd hostname rm printf kill mkdir stty df true head ps readlink"
_USERS = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
_GROUPS = "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n"


class Engine:
    """Containers of one store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cgroups_before = _cgroups()
        self.environment = {**os.environ, "UNIONFS_ROOT": str(root), "UNIONFS_RUNTIME_DIR": str(root.with_name("run"))}

    # -- images -------------------------------------------------------------------------------------------------------------

    def add_image(self, name: str, files: Mapping[str, str] | None = None, config: Mapping[str, object] | None = None) -> None:
        """An image of busybox, with ``files`` in a layer on top."""
        with open_store(self.root) as store, adding(self.root):
            layers = [store.layers.add_from_tar(_busybox()).diff_id]
            if files:
                layers.append(store.layers.add_from_tar(_archive(files)).diff_id)
            settings = {"Cmd": ["sh"], "Env": ["FROM=image"], **(config or {})}
            store.images.add(new_config(layers, created=0, config=settings), layers, parse_reference(name))

    # -- running ------------------------------------------------------------------------------------------------------------

    def command(self, *arguments: str | Path) -> list[str | Path]:
        return [mounts.UNIONFS, *arguments]

    def run(self, *arguments: str | Path, stdin: bytes | None = None, **environment: str) -> Ended:
        """Run ``unionfs`` to its end, whatever its exit status."""
        all_of_it = self.environment | environment
        if stdin is None:
            return preloaded.run(arguments, environment=all_of_it)
        return run(self.command(*arguments), status=None, stdin=stdin, environment=all_of_it)

    def ok(self, *arguments: str | Path, stdin: bytes | None = None, **environment: str) -> str:
        """The same where it shall succeed without complaint; what it printed."""
        ended = self.run(*arguments, stdin=stdin, **environment)
        assert (ended.status, ended.stderr) == (0, ""), describe(self.command(*arguments), ended)
        return ended.stdout

    @contextlib.contextmanager
    def started(self, *arguments: str | Path, **extra: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``unionfs`` beside the test; killed at the end if it still runs."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with started(self.command(*arguments), environment=self.environment, **{**pipes, **extra}) as process:
            yield process

    # -- looking ------------------------------------------------------------------------------------------------------------

    def containers(self) -> list[dict[str, Any]]:
        """What ``ps -a`` lists, newest first."""
        listed: list[dict[str, Any]] = json.loads(self.ok("ps", "-a", "--json"))
        return listed

    def container(self, name: str) -> dict[str, Any]:
        return next(each for each in self.containers() if each["name"] == name)

    def wait_for_output(self, name: str, text: str) -> None:
        """Until a container has written ``text``."""
        wait_until(lambda: text in self.run("logs", name).stdout)

    def monitor_of(self, container_id: str) -> tuple[int, int]:
        """Process ID and start time of a container's monitor."""
        with open_store(self.root) as store:
            ((options,),) = store.database.read("SELECT options FROM containers WHERE id = ?", container_id)
        kept = json.loads(str(options))
        return kept["monitor"], kept["monitor_started"]

    def mounts(self) -> list[Path]:
        """What is mounted in the store."""
        return [mount.mountpoint for mount in mounts.mounts_under(self.root)]

    def leftovers(self) -> list[str]:
        """What a container that was removed should have taken along: mounts, directories, processes, cgroups."""
        found = [f"mounted: {path}" for path in self.mounts()]
        for directory in ("containers", "snapshots", "staging"):
            if (self.root / directory).is_dir():
                found += [f"{directory}/{name}" for name in os.listdir(self.root / directory)]
        found += [f"process {line}" for line in self.processes()]
        return found + [str(path) for path in sorted(_unused_for_good(_cgroups() - self._cgroups_before))]

    def processes(self) -> list[str]:
        """The processes, by their command lines, that have the store in their environment: all that we start, containers not."""
        mark = f"UNIONFS_ROOT={self.root}\0".encode()
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (directory / "environ").read_bytes() + b"\0":
                    found.append(f"{directory.name} {(directory / 'cmdline').read_bytes()!r}")
        return found

    def end_all(self) -> None:
        """Remove the containers of a test that failed half-way."""
        for each in self.containers():
            self.run("rm", "-f", each["id"])


def _cgroups() -> set[Path]:
    return set(Path("/sys/fs/cgroup").glob("*/unionfs-*"))


def _unused_for_good(cgroups: set[Path]) -> set[Path]:
    """Those that nobody uses nor takes away.  Another test's container has its cgroups a moment longer than processes in them."""
    deadline = time.monotonic() + TIMEOUT
    while (unused := {cgroup for cgroup in cgroups if _is_unused(cgroup)}) and time.monotonic() < deadline:
        cgroups = unused
        time.sleep(0.01)  # between two looks only: others need the CPU
    return unused


def _is_unused(cgroup: Path) -> bool:
    try:
        return not (cgroup / "cgroup.procs").read_text()
    except OSError:  # gone meanwhile
        return False


def kill(process: tuple[int, int]) -> None:
    """SIGKILL to a process (ID and start time), and wait for its end."""
    os.kill(process[0], signal.SIGKILL)
    wait_until(lambda: not is_running(*process))


def _busybox() -> BinaryIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            _add(tar, name, None, mode)
        _add(tar, "bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
        for applet in _APPLETS.split():
            _add(tar, f"bin/{applet}", "busybox")
        _add(tar, "etc/passwd", _USERS.encode())
        _add(tar, "etc/group", _GROUPS.encode())
        _add(tar, "etc/file", b"image\n")
        _add(tar, "plain", b"no program\n")
    buffer.seek(0)
    return buffer


def _archive(files: Mapping[str, str]) -> BinaryIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            _add(tar, name, text.encode())
    buffer.seek(0)
    return buffer


def _add(tar: tarfile.TarFile, name: str, content: bytes | str | None, mode: int = 0o644) -> None:
    """A directory (None), a symbolic link (str) or a file."""
    info = tarfile.TarInfo(name)
    info.mode = mode
    if content is None:
        info.type = tarfile.DIRTYPE
    elif isinstance(content, str):
        info.type, info.linkname = tarfile.SYMTYPE, content
    else:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        return
    tar.addfile(info)
