"""The real programs, on our mount program: each with data, state and registry of its own under the test's ``tmp_path``.

Every test ends by taking everything away with the means of the program that made it; what stays then (a mount, a daemon of
ours, a container's process) fails the test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mounts import mounts_under
from tests.programs import TIMEOUT, run, started, wait_until

BIN = Path(sys.executable).parent
BUSYBOX = Path("/bin/busybox")

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""podman and buildah ask for more open files than root without CAP_SYS_RESOURCE may have."""

CONTAINERFILE = """\
FROM scratch
ADD image.tar /
RUN echo built > /built && rm /bin/touch && mkdir -p /d/e && mv /d/e /d/f
RUN cat /built > /again && test ! -e /bin/touch && test -d /d/f && ! test -e /d/e
CMD ["cat", "/again"]
"""
"""Two RUN steps over a layer: the second sees what the first has made, removed and renamed."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips where a program is missing (in CI a skip is a failure)."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def processes_of(directory: Path) -> list[str]:
    """Command lines that name ``directory``: daemons of ours, shims and monitors of containers there.  No zombies: those wait for
    a parent that is not ours."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(os.fsencode(directory) in word for word in words):
            found.append(f"{process.name}: {b' '.join(words).decode(errors='replace')}")
    return found


@dataclass(frozen=True)
class Place:
    """Where a test's programs have all that is theirs."""

    root: Path
    environment: dict[str, str]

    def run(self, command: Sequence[str | Path], status: int = 0) -> str:
        """Run a command, which shall end with ``status``; what it printed on stdout."""
        return run(command, status=status, environment=self.environment, cwd=self.root).stdout

    @contextlib.contextmanager
    def daemon(self, command: Sequence[str | Path], answers: Sequence[str | Path]) -> Iterator[None]:
        """Run a daemon until the block ends, which begins once the command ``answers`` succeeds; ended by its process ID, as a
        service manager does."""
        log = self.root / f"{command[0]}.log"
        with (
            log.open("wb") as written,
            started(command, environment=self.environment, cwd=self.root, stdout=written, stderr=written) as process,
        ):
            try:
                wait_until(lambda: process.poll() is not None or self._succeeds(answers), f"{command[0]} to answer")
                assert process.poll() is None, log.read_text(errors="replace")
                yield
            finally:
                process.terminate()
                process.wait(TIMEOUT)

    def _succeeds(self, command: Sequence[str | Path]) -> bool:
        return run(command, status=None, environment=self.environment, cwd=self.root).status == 0

    def our_mounts(self) -> list[Path]:
        """The mounts of ours here."""
        return [mount.mountpoint for mount in mounts_under(self.root) if mount.fstype == "fuse.unionfs"]

    def check_nothing_is_left(self) -> None:
        """No mount, no process, nothing registered; daemons end a moment after the unmount."""
        wait_until(lambda: not self.our_mounts(), "the end of all mounts")
        wait_until(lambda: not any((self.root / "run").glob("*")), f"the end of our daemons: {processes_of(self.root)}")
        wait_until(lambda: not processes_of(self.root), "the end of all processes")


def make_image(target: Path) -> None:
    """A root filesystem with nothing but busybox and a few links to it, as a tar."""
    with tarfile.open(target, "w") as archive:
        for name in ("bin", "etc", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        archive.add(BUSYBOX, "bin/busybox")
        for name in ("sh", "cat", "echo", "ls", "mkdir", "mv", "rm", "sleep", "test", "touch", "true", "id", "chown", "stat"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Its ``image.tar`` is the root filesystem, ``context`` a directory to build in."""
    environment = {**os.environ, "UNIONFS_RUNTIME_DIR": str(tmp_path / "run"), "TMPDIR": str(tmp_path / "tmp")}
    # podman and buildah let these override what they are told; the tests say all of it themselves.
    for variable in ("XDG_RUNTIME_DIR", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DOCKER_HOST", "CONTAINER_HOST"):
        environment.pop(variable, None)
    (tmp_path / "tmp").mkdir()
    make_image(tmp_path / "image.tar")
    context = tmp_path / "context"
    context.mkdir()
    (context / "image.tar").hardlink_to(tmp_path / "image.tar")
    (context / "Dockerfile").write_text(CONTAINERFILE)
    return Place(tmp_path, environment)
