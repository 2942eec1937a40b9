"""Programs that lie in the directory and are run there, some for long, and databases."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path

from tests.differential.player import Operation
from tests.load.work import weighted

_JOURNALS = ("delete", "wal", "truncate")
_ROWS = 200
PROGRAM = "cat"
"""What lies in ``programs``."""


class ProgramsWork:
    """Runs ``programs/cat``, and keeps a database ``database/DB``."""

    def __init__(self, top: Path) -> None:
        self._programs, self._database = top / "programs", top / "database/db"
        self._running: subprocess.Popen[bytes] | None = None
        self._connection: sqlite3.Connection | None = None

    def draw(self, dice: random.Random) -> list[Operation]:
        row, text = dice.randrange(_ROWS), dice.randbytes(dice.randint(1, 400)).hex()
        choices = [
            (8, Operation("store", (tuple((dice.randrange(_ROWS), f"{text}{n}") for n in range(dice.randint(1, 10))),))),
            (6, Operation("fetch", (row,))),
            (1, Operation("all_rows", ())),
            (1, Operation("roll_back", (row,))),
            (1, Operation("connect", (dice.choice(_JOURNALS),))),
            (1, Operation("integrity", ())),
            (2, Operation("run", (text,))),
            (5, Operation("echo", (text,))),
            (1, Operation("install", ())),
        ]
        return [weighted(dice, choices)]

    def end(self) -> None:
        if self._running is not None:
            self._running.communicate()
            self._running = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- programs -------------------------------------------------------------------------------------------------

    def run(self, text: str) -> tuple[int, bytes]:
        done = subprocess.run([self._programs / PROGRAM], input=text.encode(), capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def echo(self, text: str) -> bytes:
        """By a program that goes on running."""
        if self._running is None:
            command = [self._programs / PROGRAM]
            self._running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        self._running.stdin.write(f"{text}\n".encode())
        return self._running.stdout.readline()

    def install(self) -> tuple[int, bytes]:
        """A new version over the old one, as package managers do it, and the new one is run."""
        new = self._programs / f"{PROGRAM}.new"
        shutil.copy(self._programs / PROGRAM, new)
        os.rename(new, self._programs / PROGRAM)
        return self.run("installed")

    # -- a database -----------------------------------------------------------------------------------------------

    def connect(self, journal: str) -> object:
        """Close the database and open it again, with another form of journal."""
        if self._connection is not None:
            self._connection.close()
        self._connection = sqlite3.connect(self._database, isolation_level=None, timeout=30)
        self._connection.execute(f"PRAGMA journal_mode={journal}")
        return self._ask("CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, text TEXT)")

    def store(self, rows: tuple[tuple[int, str], ...]) -> object:
        """One transaction."""
        found: list[object] = [self._ask("BEGIN")]
        found += [self._ask("INSERT OR REPLACE INTO rows VALUES (?, ?)", *row) for row in rows]
        return [*found, self._ask("COMMIT")]

    def roll_back(self, row: int) -> object:
        return [self._ask("BEGIN"), self._ask("DELETE FROM rows WHERE number > ?", row), self._ask("ROLLBACK")]

    def fetch(self, row: int) -> object:
        return self._ask("SELECT text FROM rows WHERE number = ?", row)

    def all_rows(self) -> object:
        return self._ask("SELECT * FROM rows ORDER BY number")

    def integrity(self) -> object:
        return self._ask("PRAGMA integrity_check")

    def _ask(self, words: str, *arguments: object) -> object:
        if self._connection is None:
            self.connect("delete")
        assert self._connection is not None
        try:
            return self._connection.execute(words, arguments).fetchall()
        except sqlite3.Error as error:
            return f"{error.sqlite_errorname}: {error}"
