"""The metadata of the store: one SQLite database, each change of state one transaction."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from unionfs.store.errors import StoreError
from unionfs.store.schema import VERSIONS

NAME = "store.db"
_PATIENCE = 30.0
"""Seconds to wait for another process's transaction.  They are short: slow work is done before or after one."""


class Database:
    """The database of one store.  Each thread needs one of its own."""

    def __init__(self, root: Path) -> None:
        """Open it, and make it in ``root`` if it is not there.

        Raises:
            StoreError: it is of a newer version, or no database.
            OSError: the directory cannot be written.
        """
        self.path = root / NAME
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._make_private()
        try:
            self._connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._migrate()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _make_private(self) -> None:
        """It has passwords, as people put them into environments and options of volumes.  SQLite gives what it makes beside it
        the same mode."""
        try:
            # Only where there is none: to close a descriptor of it drops all locks that this process has on it
            # (sqlite.org/howtocorrupt.html).
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            status = self.path.stat()
            if stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
                for path in self.path.parent.glob(f"{NAME}*"):
                    path.chmod(0o600)

    def _migrate(self) -> None:
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(VERSIONS):
                raise StoreError(
                    str(self.path),
                    f"version {version}, this unionfs knows {len(VERSIONS)}",
                    "use the unionfs that made it, or a newer one",
                )
            for step in VERSIONS[version:]:
                # Not executescript(): that would commit the transaction.
                for statement in filter(str.strip, step.split(";")):
                    connection.execute(statement)
            if version < len(VERSIONS):
                connection.execute(f"PRAGMA user_version = {len(VERSIONS)}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may write: committed at the end, rolled back by an exception.

        Raises:
            StoreError: the database failed (full disk, another process that does not end, damage).
            sqlite3.IntegrityError: what the body did contradicts the schema; for the caller to explain.
        """
        try:
            # IMMEDIATE: to wait for others at the beginning, not to fail at the first write.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def read(self, query: str, *arguments: object) -> list[tuple[object, ...]]:
        """All rows of a query.

        Raises:
            StoreError: the database failed.
        """
        try:
            return self._connection.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """Give its files back."""
        self._connection.close()

    def _explain(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        remedy = {
            sqlite3.SQLITE_FULL: "make room on the disk",
            sqlite3.SQLITE_BUSY: "wait for the other unionfs commands to end",
            sqlite3.SQLITE_READONLY: "use a store that you may write to (--root)",
            sqlite3.SQLITE_CANTOPEN: "use a store that you may write to (--root)",
            sqlite3.SQLITE_PERM: "use a store that you may write to (--root)",
            sqlite3.SQLITE_IOERR: "see whether the disk is full or failing (dmesg)",
        }.get(code, "restore it from a backup, or use another store (--root)")
        return StoreError(str(self.path), f"the database failed: {error}", remedy)
