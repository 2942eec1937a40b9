"""Volumes as the database knows them: what they are, who names them, who has them mounted.

No mount outlives the system that made it, so rows of mounts bear the ID of a boot, and those of another boot are as if not there.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from unionfs.store.database import Database
from unionfs.store.digest import Digest
from unionfs.store.errors import InUseError, NotFoundError
from unionfs.volumes.volume import Filling, Peer, Volume, VolumeMount

_SELECT = "SELECT name, driver, options, labels, anonymous, filling, created FROM volumes"


def _volume(row: Sequence[object]) -> Volume:
    name, driver, options, labels, anonymous, filling, created = row
    return Volume(
        name=str(name),
        driver=str(driver),
        options=dict(json.loads(str(options))),
        labels=dict(json.loads(str(labels))),
        anonymous=bool(anonymous),
        filling=Filling(filling),
        created=float(str(created)),
    )


@functools.cache
def boot_id() -> str:
    """What names this boot of the system (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


# -- reading ------------------------------------------------------------------------------------------------------------


def lookup(database: Database, name: str) -> Volume | None:
    """The volume of that name."""
    rows = database.read(f"{_SELECT} WHERE name = ?", name)
    return _volume(rows[0]) if rows else None


def find(database: Database, name: str) -> Volume:
    """The volume of that name.

    Raises:
        NotFoundError: there is none.
    """
    volume = lookup(database, name)
    if volume is None:
        raise NotFoundError(name, "no such volume", "unionfs volume ls lists them")
    return volume


def all_volumes(database: Database) -> list[Volume]:
    """All of them, by name."""
    return [_volume(row) for row in database.read(f"{_SELECT} ORDER BY name")]


def mounts_of(database: Database, name: str) -> list[VolumeMount]:
    """Who has a volume mounted, the first one first."""
    rows = database.read(
        "SELECT user, count, peer_pid, peer_started, since FROM volume_mounts WHERE volume = ? AND boot = ? ORDER BY since, user",
        name,
        boot_id(),
    )
    return [_mount(row) for row in rows]


def _mount(row: Sequence[object]) -> VolumeMount:
    user, count, pid, started, since = row
    assert isinstance(count, int)
    peer = Peer(pid, started) if isinstance(pid, int) and isinstance(started, int) else None
    return VolumeMount(str(user), count, peer, float(str(since)))


def mounted(database: Database) -> list[tuple[str, VolumeMount]]:
    """Everything that anybody has mounted, with the name of its volume."""
    rows = database.read(
        "SELECT volume, user, count, peer_pid, peer_started, since FROM volume_mounts WHERE boot = ? ORDER BY volume, since",
        boot_id(),
    )
    return [(str(volume), _mount(row)) for volume, *row in rows]


def mounted_by(database: Database, user: str) -> list[str]:
    """The volumes that a user has mounted."""
    rows = database.read("SELECT volume FROM volume_mounts WHERE user = ? AND boot = ? ORDER BY volume", user, boot_id())
    return [str(name) for (name,) in rows]


def users_of(database: Database, name: str) -> list[str]:
    """In words, all that keeps a volume: ``container NAME``, ``plugin ID``, ``volume NAME`` that stands on it."""
    containers = database.read(
        "SELECT containers.name FROM volume_references JOIN containers ON containers.id = volume_references.container"
        " WHERE volume = ? ORDER BY containers.name",
        name,
    )
    others = database.read("SELECT volume FROM volume_bases WHERE base = ? ORDER BY volume", name)
    # A container that has it mounted names it, too, as long as it is recorded.
    mounts = [mount.user for mount in mounts_of(database, name)]
    unrecorded = [user.replace(":", " ", 1) for user in mounts if not containers or not user.startswith("container:")]
    return [*(f"container {user}" for (user,) in containers), *unrecorded, *(f"volume {user}" for (user,) in others)]


def naming(database: Database, name: str) -> set[str]:
    """IDs of the containers that name a volume."""
    return {str(container) for (container,) in database.read("SELECT container FROM volume_references WHERE volume = ?", name)}


def layers_of(database: Database, name: str) -> list[Digest]:
    """The layers that a volume stands on, the topmost first."""
    found = database.read("SELECT diff_id FROM volume_layers WHERE volume = ? ORDER BY position DESC", name)
    return [Digest(diff_id) for (diff_id,) in found]


def named_by(database: Database, container_id: str) -> list[Volume]:
    """The volumes that a container names."""
    rows = database.read(f"{_SELECT} JOIN volume_references ON volume = name WHERE container = ? ORDER BY name", container_id)
    return [_volume(row) for row in rows]


# -- changing, within a transaction ---------------------------------------------------------------------------------------


def insert(connection: sqlite3.Connection, volume: Volume) -> None:
    """Add one.

    Raises:
        sqlite3.IntegrityError: there is one of that name.
    """
    connection.execute(
        "INSERT INTO volumes (name, driver, options, labels, anonymous, filling, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            volume.name,
            volume.driver,
            json.dumps(volume.options, sort_keys=True),
            json.dumps(volume.labels, sort_keys=True),
            volume.anonymous,
            volume.filling.value,
            volume.created,
        ),
    )


def delete(connection: sqlite3.Connection, name: str) -> None:
    """Forget one.

    Raises:
        sqlite3.IntegrityError: somebody uses it.
    """
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))


def add_references(connection: sqlite3.Connection, names: Iterable[str], container_id: str) -> None:
    """Let a container, whose row this transaction has made, name volumes.

    Raises:
        InUseError: one of them was removed meanwhile.
    """
    for name in dict.fromkeys(names):
        if not connection.execute("SELECT 1 FROM volumes WHERE name = ?", (name,)).fetchone():
            raise InUseError(name, "the volume was removed while a container was made that names it", "try again")
        connection.execute("INSERT INTO volume_references (volume, container) VALUES (?, ?)", (name, container_id))


def add_bases(connection: sqlite3.Connection, name: str, volumes: Iterable[str], layers: Sequence[Digest]) -> None:
    """Note what the volume ``name`` stands on: other volumes, and ``layers``, the bottom first.

    Raises:
        sqlite3.IntegrityError: one of them is not there (any more).
    """
    connection.executemany("INSERT INTO volume_bases (volume, base) VALUES (?, ?)", [(name, base) for base in volumes])
    stack = [(name, position, layer) for position, layer in enumerate(layers)]
    connection.executemany("INSERT INTO volume_layers (volume, position, diff_id) VALUES (?, ?, ?)", stack)


def set_filling(connection: sqlite3.Connection, name: str, filling: Filling) -> None:
    """See `Filling`."""
    connection.execute("UPDATE volumes SET filling = ? WHERE name = ?", (filling.value, name))


def count_mount(connection: sqlite3.Connection, name: str, user: str, peer: Peer | None) -> None:
    """Note one mount more.

    Raises:
        sqlite3.IntegrityError: there is no such volume.
    """
    connection.execute(
        "INSERT INTO volume_mounts (volume, user, count, peer_pid, peer_started, boot, since) VALUES (?, ?, 1, ?, ?, ?, ?)"
        " ON CONFLICT (volume, user) DO UPDATE SET count = CASE WHEN boot = excluded.boot THEN count + 1 ELSE 1 END,"
        " peer_pid = excluded.peer_pid, peer_started = excluded.peer_started, boot = excluded.boot, since = excluded.since",
        (name, user, peer and peer.pid, peer and peer.started, boot_id(), time.time()),
    )


def uncount_mount(connection: sqlite3.Connection, name: str, user: str) -> bool:
    """Note one mount less; False: that user has none."""
    found = connection.execute(
        "SELECT count FROM volume_mounts WHERE volume = ? AND user = ? AND boot = ?", (name, user, boot_id())
    ).fetchone()
    if found is None:
        return False
    if found[0] > 1:
        connection.execute("UPDATE volume_mounts SET count = count - 1 WHERE volume = ? AND user = ?", (name, user))
    else:
        forget_mounts(connection, name, user)
    return True


def forget_mounts(connection: sqlite3.Connection, name: str, user: str) -> None:
    """Note that a user has a volume no longer mounted, however often it was."""
    connection.execute("DELETE FROM volume_mounts WHERE volume = ? AND user = ?", (name, user))
