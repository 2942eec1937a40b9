"""SQLite on a database of a lower layer, which the first write copies up; a transaction each, in both kinds of journal."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from unionfs.bench.workload import Corpora, Place, Workload, expect

ROWS = 2000
"""Rows that the database has in the layer, of about a kilobyte."""

_DATABASE = "database/test.db"


def _rows(seed: str, count: int) -> list[tuple[bytes]]:
    rng = random.Random(seed)  # noqa: S311  # reproducible on purpose
    return [(rng.randbytes(1000),) for _ in range(count)]


def _make_database(layer: Path, rows: int) -> None:
    path = layer / _DATABASE
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, payload BLOB)")
        database.execute("CREATE TABLE total (entries INTEGER)")
        database.executemany("INSERT INTO entries (payload) VALUES (?)", _rows("lower", rows))
        database.execute("INSERT INTO total VALUES (?)", (rows,))


class Transactions:
    """Small transactions that add a row and change another table's: each makes and removes a journal, or appends to one."""

    group = "programs"
    requires: tuple[str, ...] = ()

    def __init__(self, journal: str, transactions: int) -> None:
        self.name = f"sqlite-{journal}"
        self.title = f"SQLite, {transactions:,} transactions, journal_mode={journal.upper()}"
        self.journal = journal
        self.transactions = transactions
        self.added: list[tuple[bytes]] = []

    def layers(self, corpora: Corpora) -> list[Path]:
        rows = corpora.scaled(ROWS)
        return [corpora.get(f"sqlite-{rows}", lambda layer: _make_database(layer, rows))]

    def prepare(self, place: Place) -> None:
        self.added = _rows(self.name, place.corpora.scaled(self.transactions))

    def run(self, place: Place) -> None:
        with closing(sqlite3.connect(place.merged / _DATABASE, isolation_level=None)) as database:
            database.execute(f"PRAGMA journal_mode = {self.journal}")
            for row in self.added:
                database.execute("BEGIN IMMEDIATE")
                database.execute("INSERT INTO entries (payload) VALUES (?)", row)
                database.execute("UPDATE total SET entries = entries + 1")
                database.execute("COMMIT")

    def check(self, place: Place) -> None:
        before = place.corpora.scaled(ROWS)
        with closing(sqlite3.connect(place.merged / _DATABASE)) as database:
            found = database.execute("SELECT payload FROM entries WHERE number > ? ORDER BY number", (before,)).fetchall()
            (total,) = database.execute("SELECT entries FROM total").fetchone()
            (journal,) = database.execute("PRAGMA journal_mode").fetchone()
            (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
        expect("rows added", len(found), len(self.added))
        expect("rows added as they were", found == self.added, True)
        expect("rows counted", total, before + len(self.added))
        expect("journal_mode", journal, self.journal)
        expect("integrity", integrity, "ok")


WORKLOADS: tuple[Workload, ...] = (Transactions("delete", 300), Transactions("wal", 1000))
