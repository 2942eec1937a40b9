"""Snapshots as the database knows them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from unionfs.store.database import Database
from unionfs.store.digest import Digest
from unionfs.store.errors import ExistsError, InUseError, NotFoundError, StoreError


class Kind(Enum):
    """What can be done with a snapshot, as containerd has it."""

    ACTIVE = "active"
    """Writable; becomes a committed one, or is removed."""
    VIEW = "view"
    """Read-only."""
    COMMITTED = "committed"
    """A layer over its parent: what others stand on.  Never mounted itself."""


@dataclass(frozen=True)
class SnapshotInfo:
    """What there is to know of a snapshot.  ``created`` is in seconds since the epoch."""

    name: str
    kind: Kind
    parent: str | None
    created: float
    labels: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class SnapshotRow:
    """A snapshot with what is only for the store: ``number`` names its directory; ``diff_id`` is the layer of a committed one."""

    number: int
    info: SnapshotInfo
    driver: str
    diff_id: Digest | None
    size_limit: int | None


_COLUMNS = "id, name, kind, parent, driver, diff_id, size_limit, labels, created"


def _row(values: Sequence[object]) -> SnapshotRow:
    number, name, kind, parent, driver, diff_id, size_limit, labels, created = values
    assert isinstance(number, int)
    assert isinstance(created, float)
    assert size_limit is None or isinstance(size_limit, int)
    info = SnapshotInfo(str(name), Kind(kind), None if parent is None else str(parent), created, dict(json.loads(str(labels))))
    return SnapshotRow(number, info, str(driver), None if diff_id is None else Digest(diff_id), size_limit)


# -- reading ------------------------------------------------------------------------------------------------------------


def find(database: Database, name: str) -> SnapshotRow:
    """The snapshot of that name.

    Raises:
        NotFoundError: there is none.
    """
    rows = database.read(f"SELECT {_COLUMNS} FROM snapshots WHERE name = ?", name)  # noqa: S608
    if not rows:
        raise _not_found(name)
    return _row(rows[0])


def all_rows(database: Database) -> list[SnapshotRow]:
    """All snapshots, oldest first: parents before children."""
    return [_row(values) for values in database.read(f"SELECT {_COLUMNS} FROM snapshots ORDER BY id")]  # noqa: S608


def chain(database: Database, name: str) -> list[Digest]:
    """The layers that a committed snapshot stands for, top first.

    Raises:
        NotFoundError: there is no such snapshot.
        StoreError: it is not committed.
    """
    committed(find(database, name))
    rows = database.read(
        """
        WITH RECURSIVE chain (depth, parent, diff_id) AS (
            SELECT 0, parent, diff_id FROM snapshots WHERE name = ?
            UNION ALL
            SELECT depth + 1, snapshots.parent, snapshots.diff_id FROM snapshots JOIN chain ON snapshots.name = chain.parent
        )
        SELECT diff_id FROM chain ORDER BY depth
        """,
        name,
    )
    return [Digest(diff_id) for (diff_id,) in rows]


def committed(row: SnapshotRow) -> SnapshotRow:
    """``row``, if something can stand on it.

    Raises:
        StoreError: it is not committed.
    """
    if row.info.kind is not Kind.COMMITTED:
        raise StoreError(row.info.name, f"is not committed but {row.info.kind.value}", "commit it first, or use its parent")
    return row


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(name, "no such snapshot", "see which there are, or prepare it")


# -- changing, within a transaction ---------------------------------------------------------------------------------------


def refuse_existing(connection: sqlite3.Connection, name: str) -> None:
    """
    Raises:
        ExistsError: there is a snapshot of that name.
        StoreError: nothing may be called so.
    """
    if not name or not name.isprintable():
        raise StoreError(repr(name), "not a name of a snapshot", "use one or more printable characters")
    found = connection.execute("SELECT kind FROM snapshots WHERE name = ?", (name,)).fetchone()
    if found:
        raise ExistsError(name, f"there is a snapshot of that name already ({found[0]})", "use another name, or remove it")


def insert(
    connection: sqlite3.Connection,
    name: str,
    kind: Kind,
    parent: str | None,
    *,
    driver: str,
    diff_id: Digest | None = None,
    size_limit: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> int:
    """Add one; its number.

    Raises:
        ExistsError: there is one of that name.
        NotFoundError: there is no such parent (any more), or no such layer.
        StoreError: the parent is not committed.
    """
    refuse_existing(connection, name)
    if parent is not None:
        values = connection.execute(f"SELECT {_COLUMNS} FROM snapshots WHERE name = ?", (parent,)).fetchone()  # noqa: S608
        if values is None:
            raise _not_found(parent)
        committed(_row(values))
    if diff_id is not None:
        _demand_layer(connection, diff_id)
    row = (name, kind.value, parent, driver, diff_id, size_limit, json.dumps(dict(labels or {})), time.time())
    cursor = connection.execute(
        "INSERT INTO snapshots (name, kind, parent, driver, diff_id, size_limit, labels, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _demand_layer(connection: sqlite3.Connection, diff_id: Digest) -> None:
    if not connection.execute("SELECT 1 FROM layers WHERE diff_id = ?", (diff_id,)).fetchone():
        raise NotFoundError(diff_id, "no such layer", "import an image that has it")


def make_committed(connection: sqlite3.Connection, number: int, name: str, diff_id: Digest) -> None:
    """Turn an active one into the committed ``name``.

    Raises:
        ExistsError: there is one of that name.
        NotFoundError: there is no such layer.
    """
    (key,) = connection.execute("SELECT name FROM snapshots WHERE id = ?", (number,)).fetchone()
    if name != key:
        refuse_existing(connection, name)
    _demand_layer(connection, diff_id)
    connection.execute(
        "UPDATE snapshots SET name = ?, kind = 'committed', diff_id = ?, size_limit = NULL WHERE id = ?", (name, diff_id, number)
    )


def delete(connection: sqlite3.Connection, row: SnapshotRow) -> None:
    """Forget one.

    Raises:
        InUseError: others stand on it, or a container uses it.
        NotFoundError: somebody else was faster.
    """
    name = row.info.name
    users = [
        f"snapshot {child}" for (child,) in connection.execute("SELECT name FROM snapshots WHERE parent = ? ORDER BY id", (name,))
    ]
    users += [f"container {user}" for (user,) in connection.execute("SELECT name FROM containers WHERE snapshot = ?", (name,))]
    if users:
        raise InUseError(name, f"in use by {', '.join(users)}", "remove these first")
    # By its name too: an active one may have been committed under another one meanwhile.
    if not connection.execute("DELETE FROM snapshots WHERE id = ? AND name = ?", (row.number, name)).rowcount:
        raise _not_found(name)
