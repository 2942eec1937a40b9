"""The OCI runtime, runc or crun: found on PATH, its version checked, its errors told apart."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unionfs.linux.capabilities import in_initial_user_namespace
from unionfs.linux.mount import MNT_DETACH, MS_RDONLY, mount, umount
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.linux.namespaces import enter_private_mount_namespace
from unionfs.store.errors import StoreError

KNOWN = ("runc", "crun")
"""In the order in which they are looked for."""

_OLDEST = {"runc": (1, 0), "crun": (1, 0)}
_VERSION = re.compile(r"^(runc|crun) version (\d+)\.(\d+)(\S*)", re.MULTILINE)
_UNIFIED = Path("/sys/fs/cgroup/unified")

CANNOT_INVOKE = 126
NOT_FOUND = 127
FAILED = 125
"""Exit statuses of ``run``, as docker's: it is there but cannot be executed, it is not there, the container could not begin."""

# runc: 'exec: "x": executable file not found in $PATH', 'exec /x: permission denied'; crun: "executable file `x` not found".
_NOT_FOUND = re.compile(
    r"executable file .*not found|exec.*no such file or directory|stat .*no such file", re.IGNORECASE | re.DOTALL
)
_CANNOT_INVOKE = re.compile(r"exec.*(permission denied|is a directory|format error)|open executable", re.IGNORECASE | re.DOTALL)


class RuntimeFailedError(StoreError):
    """The runtime refused something; ``exit_code`` is what docker ends with then."""

    def __init__(self, thing: str, problem: str, remedy: str | None, exit_code: int) -> None:
        super().__init__(thing, problem, remedy)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Runtime:
    """A runtime program that can be used.  ``path`` is absolute."""

    name: str
    path: str
    version: str

    def prepare_process(self) -> None:
        """To be called in the process that is to execute it.

        crun refuses a machine where cgroup v1 and v2 are both mounted, whatever its config says; it is content where it does not
        see v2: in a mount namespace of its own.  Root of a user namespace cannot unmount it (mount_namespaces(7), "locked"), but
        cover it.

        Raises:
            OSError: no right to.
        """
        if self.name == "crun" and _is_hybrid():
            enter_private_mount_namespace()
            if in_initial_user_namespace():
                umount(os.fsencode(_UNIFIED), MNT_DETACH)
            else:
                mount(b"none", os.fsencode(_UNIFIED), b"tmpfs", MS_RDONLY, b"")

    def create(
        self,
        directory: Path,
        container_id: str,
        *,
        stdio: tuple[int, int, int],
        console_socket: Path | None = None,
    ) -> int:
        """Make the container of the bundle ``directory``, ready to start, with ``stdio`` as its standard streams.  The process
        id of its first process, which becomes a child of the nearest subreaper.

        Raises:
            RuntimeFailedError: it refused.
        """
        pid_file = directory / "pid"
        words = ["create", "--bundle", str(directory), "--pid-file", str(pid_file)]
        if console_socket is not None:
            words += ["--console-socket", str(console_socket)]
        self._run(directory, [*words, container_id], stdio=stdio)
        return int(pid_file.read_text())

    def start(self, directory: Path, container_id: str) -> None:
        """Let its first process execute what it is for.

        Raises:
            RuntimeFailedError: it cannot be executed.
        """
        self._run(directory, ["start", container_id])

    def delete(self, directory: Path, container_id: str) -> None:
        """Kill what is left of the container and remove its cgroups; nothing where the runtime does not know it.

        Raises:
            RuntimeFailedError: it refused.
        """
        if (directory / _STATE / container_id).exists():
            self._run(directory, ["delete", "--force", container_id])

    def pause(self, directory: Path, container_id: str, *keeps: int) -> None:
        """Stop all its processes at once.  The runtime has the descriptors ``keeps`` as long as it is at that.

        Raises:
            RuntimeFailedError: there is no freezer cgroup.
        """
        self._run(directory, ["pause", container_id], keeps=keeps)

    def is_paused(self, directory: Path, container_id: str) -> bool:
        """Whether its processes are stopped so."""
        done = subprocess.run(
            self.arguments(directory, ["state", container_id], directory / _LOG),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            preexec_fn=self._preparation(),
            check=False,
        )
        return done.returncode == 0 and json.loads(done.stdout)["status"] == "paused"

    def resume(self, directory: Path, container_id: str) -> None:
        """Let them go on.

        Raises:
            RuntimeFailedError: it refused.
        """
        self._run(directory, ["resume", container_id])

    def execute(self, directory: Path, container_id: str, process: Path, *, pid_file: Path, log: Path) -> subprocess.Popen[bytes]:
        """Run another process, described by the file ``process`` (the object of `unionfs.containers.process`), with the standard
        streams of this one.  Its exit status is that of the runtime; what the runtime itself has to say is in ``log``
        (`failure_in`)."""
        words = ["exec", "--process", str(process), "--pid-file", str(pid_file), container_id]
        return subprocess.Popen(self.arguments(directory, words, log), preexec_fn=self._preparation())

    def arguments(self, directory: Path, words: Sequence[str], log: Path) -> list[str]:
        """The command that runs it with ``words`` for the container with that directory."""
        return [self.path, "--root", str(directory / _STATE), "--log", str(log), "--log-format", "json", *words]

    def _run(
        self, directory: Path, words: Sequence[str], stdio: tuple[int, int, int] | None = None, keeps: tuple[int, ...] = ()
    ) -> None:
        log = directory / _LOG
        with contextlib.suppress(FileNotFoundError):
            log.unlink()
        stdin, stdout, stderr = stdio or (subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
        done = subprocess.run(
            self.arguments(directory, words, log),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=self._preparation(),
            pass_fds=keeps,
            check=False,
        )
        if done.returncode:
            raise self.failure_in(log, words[0], done.returncode)

    def _preparation(self) -> Callable[[], None] | None:
        return self.prepare_process if self.name == "crun" else None

    def failure_in(self, log: Path, what: str, status: int) -> RuntimeFailedError:
        """Why it ended with ``status``, by what its log says."""
        said = messages_in(log)
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        problem = said[-1] if said else f"{self.name} {what} {how}"
        return RuntimeFailedError(self.name, problem, _remedy(problem), _exit_code(problem))


_STATE = "runtime"
_LOG = "runtime.log"


def messages_in(log: Path) -> list[str]:
    """The errors in a log of the runtime; none if there is no log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        if record.get("level") in ("error", "fatal"):
            found.append(" ".join(str(record.get("msg", "")).split()))
    return found


def _exit_code(problem: str) -> int:
    if _NOT_FOUND.search(problem):
        return NOT_FOUND
    return CANNOT_INVOKE if _CANNOT_INVOKE.search(problem) else FAILED


def _remedy(problem: str) -> str | None:
    code = _exit_code(problem)
    if code == NOT_FOUND:
        return "name a program that the image has"
    if code == CANNOT_INVOKE:
        return "see its mode (x) and its interpreter in the image"
    return None


def find_runtime(wanted: str | None = None) -> Runtime:
    """The runtime ``wanted`` (name or path), else the first of `KNOWN` that is there.

    Raises:
        StoreError: there is none, it is another program, or too old.
    """
    path = shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, KNOWN)), None)
    if path is None:
        raise StoreError(wanted or "runc, crun", "no such program on PATH", "install one: apt-get install runc (or crun)")
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(path, f"--version failed: {error}", "use another runtime (--runtime)") from error
    match = _VERSION.search(done.stdout)
    if match is None:
        raise StoreError(path, "neither runc nor crun", "use one of these (--runtime)")
    name, version = match[1], (int(match[2]), int(match[3]))
    if version < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise StoreError(
            path, f"version {match[2]}.{match[3]} is too old", f"install {name} {oldest} or later, or use another (--runtime)"
        )
    return Runtime(name, str(Path(path).absolute()), f"{match[2]}.{match[3]}{match[4]}")


def _is_hybrid() -> bool:
    return any(mount.mount_point == _UNIFIED and mount.fstype == "cgroup2" for mount in read_mountinfo())
