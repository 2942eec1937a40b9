"""A store on which the commands are run, and archives to fill it from."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BIN, TIMEOUT, Programs
from tests.programs import Ended, started
from tests.store.images.made_images import docker_archive, tar_of
from unionfs.store.reference import parse_reference
from unionfs.store.sources.archive import import_image
from unionfs.store.store import open_store

BASE = tar_of({"etc/name": b"base\n", "bin/program": b"x" * 50_000})
TOP = tar_of({"etc/name": b"top\n", "etc/.wh.gone": b""})
OTHER = tar_of({"srv/data": b"y" * 7_000})


class StoreCommands:
    """The commands of the store at ``root``, which they are told by UNIONFS_ROOT."""

    def __init__(self, programs: Programs, root: Path) -> None:
        self.root = root
        self._programs = programs
        programs.environment |= {"UNIONFS_ROOT": str(root), "TZ": "UTC", "TERM": "xterm"}
        self.environment = programs.environment

    def ok(self, *arguments: str | Path) -> str:
        """Run ``unionfs``, which shall succeed without a word on stderr; what it printed."""
        return self._programs.unionfs(*arguments)

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def run(self, *arguments: str | Path, **extra: Any) -> Ended:
        return self._programs.run("unionfs", *arguments, **extra)

    def refusal(self, *arguments: str | Path, status: int = 1) -> str:
        """The one line that it fails with."""
        return self._programs.refusal(*arguments, status=status)

    def started(self, *arguments: str | Path) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """Run ``unionfs`` beside the test; killed at the end if it still runs."""
        return started([BIN / "unionfs", *arguments], environment=self.environment, stdout=subprocess.DEVNULL)

    def on_terminal(self, *arguments: str | Path) -> str:
        """Run ``unionfs`` with stdout and stderr on a terminal; what that got."""
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (25, 120))
        command = [BIN / "unionfs", *arguments]
        with subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave) as process:
            os.close(slave)
            shown = b"".join(_read_all(master))
            assert process.wait(TIMEOUT) == 0, shown
        os.close(master)
        return shown.decode()

    def import_(self, name: str, *layers: bytes) -> str:
        """Import an image of ``layers``, without the command; its ID."""
        source = docker_archive(self.root.with_name("source.tar"), *layers)
        with open_store(self.root) as opened:
            return import_image(opened, source, parse_reference(name)).id

    def rows(self, *arguments: str | Path) -> list[list[str]]:
        """What a table has, with its headings; no cell that is looked at may have a space."""
        return [line.split() for line in self.ok(*arguments).splitlines()]


def _read_all(master: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(master, 1 << 16)
        except OSError:  # EIO: nobody has the other side any more
            return
        if not data:
            return
        yield data


@pytest.fixture
def store(programs: Programs, tmp_path: Path) -> StoreCommands:
    return StoreCommands(programs, tmp_path / "store")
