"""SQLite in WAL mode: byte-range locks between processes and a shared memory file mapped by all of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from .machine import Machine

WRITERS = 3
TRANSACTIONS = 40

# Each writer is a process; they share the -shm file by mmap and the locks on it by fcntl.
WRITER = """
import sqlite3, sys
database = sqlite3.connect("/database/test.db", timeout=60, isolation_level=None)
for number in range(int(sys.argv[2])):
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO entries VALUES (?, ?, randomblob(2000))", (int(sys.argv[1]), number))
    database.execute("UPDATE total SET entries = entries + 1")
    database.execute("COMMIT")
"""

# Reports each commit and never closes the database, so that it can be killed at any point of a transaction.
ENDLESS_WRITER = """
import os, signal, sqlite3
database = sqlite3.connect("/database/test.db", timeout=60, isolation_level=None)
for number in range(20):
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO entries VALUES (99, ?, randomblob(2000))", (number,))
    database.execute("UPDATE total SET entries = entries + 1")
    if number < 10:
        database.execute("COMMIT")
    elif number == 10:
        os.kill(os.getpid(), signal.SIGKILL)
"""

CREATE = """
PRAGMA journal_mode = WAL;
CREATE TABLE entries (writer INTEGER, number INTEGER, payload BLOB, PRIMARY KEY (writer, number));
CREATE TABLE total (entries INTEGER);
INSERT INTO total VALUES (0);
"""


@pytest.mark.timeout(300)
def test_wal_database_is_whole_after_concurrent_writers_and_a_killed_one(machine: Machine) -> None:
    directory = machine.make_directory("/database")
    (directory / "writer.py").write_text(WRITER)
    (directory / "endless.py").write_text(ENDLESS_WRITER)
    # Closed in any case: an open file would keep the machine's union from being unmounted.
    with closing(sqlite3.connect(directory / "test.db")) as database:
        database.executescript(CREATE)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)

        # `wait` alone would forget how they ended.
        start = " ".join(f'python3 /database/writer.py {n} {TRANSACTIONS} & pids="$pids $!";' for n in range(WRITERS))
        machine.run("sh", "-c", f"{start} for pid in $pids; do wait $pid || exit 1; done")
        written = WRITERS * TRANSACTIONS
        # This process had the database open all the while, and must see through its own mapping what the others wrote.
        assert database.execute("SELECT entries FROM total").fetchone() == (written,)

        machine.run("sh", "-c", "python3 /database/endless.py; test $? = 137")
        assert database.execute("SELECT entries FROM total").fetchone() == (written + 10,)
        assert database.execute("SELECT count(*) FROM entries").fetchone() == (written + 10,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)

        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert {path.name for path in directory.iterdir()} == {"writer.py", "endless.py", "test.db"}
    check = "import sqlite3; print(sqlite3.connect('/database/test.db').execute('PRAGMA integrity_check').fetchone()[0])"
    assert machine.run("python3", "-c", check) == "ok\n"
