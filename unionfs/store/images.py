"""Images and their names.

An image is its config, whose digest is its ID, and the layers that this names.  A name belongs to one image; an image may have
several, or
none (when its name went to another one, as docker does it).
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unionfs.store.blobs import Blobs
from unionfs.store.database import Database
from unionfs.store.digest import Digest
from unionfs.store.errors import CorruptError, InUseError, NotFoundError, StoreError
from unionfs.store.image_config import ImageConfig
from unionfs.store.reference import Reference, parse_reference

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True)
class Image:
    """``layers``: the bottom first.  ``created``: when it was made, as its config tells, else when it came; ``imported``: when
    it came into
    the store; both in seconds since the epoch."""

    id: Digest
    config: ImageConfig
    layers: tuple[Digest, ...]
    names: tuple[Reference, ...]
    created: float
    imported: float

    @property
    def label(self) -> str:
        """What to call it: its first name, else the short ID."""
        return str(self.names[0]) if self.names else self.id.short


@dataclass(frozen=True)
class Removal:
    """What a removal did: names that are gone, the image if it is gone too, and the containers (names) it had to stay for."""

    untagged: tuple[Reference, ...]
    deleted: Digest | None
    used_by: tuple[str, ...] = ()


class Images:
    """The images of one store."""

    def __init__(self, root: Path, database: Database) -> None:
        self._database = database
        self.blobs = Blobs(root)

    def add(self, config: bytes, layers: Sequence[Digest], name: Reference | None) -> Image:
        """Make an image of layers that the store has (the bottom first), and give it ``name``, which another image loses by that.

        The caller holds `unionfs.store.leases.adding` since before it added the layers.

        Raises:
            CorruptError: the config is malformed, or is for other layers.
            NotFoundError: a layer is not there.
            StoreError: the database failed.
            OSError: the config cannot be written.
        """
        parsed = ImageConfig.parse(config)
        if parsed.diff_ids != tuple(layers):
            raise CorruptError("image config", "is for other layers than those of the image", "make the archive anew")
        try:
            with self._database.transaction() as connection:
                digest = self.blobs.put(config)
                _insert(connection, digest, layers)
                if name is not None:
                    _give_name(connection, digest, name)
        except sqlite3.IntegrityError as error:
            raise NotFoundError(
                f"image {name or ''}".strip(), "one of its layers is not in the store", "import it anew"
            ) from error
        return self.get(digest)

    def get(self, digest: Digest) -> Image:
        """The image of that ID.

        Raises:
            NotFoundError: there is none.
            CorruptError: its config was damaged.
        """
        rows = self._database.read("SELECT created FROM images WHERE id = ?", digest)
        if not rows:
            raise _not_found(digest)
        layers = self._database.read("SELECT diff_id FROM image_layers WHERE image = ? ORDER BY position", digest)
        names = self._database.read("SELECT name, tag FROM image_names WHERE image = ? ORDER BY name, tag", digest)
        config = ImageConfig.parse(self._config_of(digest), f"config {digest}")
        imported = float(str(rows[0][0]))
        return Image(
            id=digest,
            config=config,
            layers=tuple(Digest(diff_id) for (diff_id,) in layers),
            names=tuple(Reference(str(name), str(tag)) for name, tag in names),
            created=imported if config.created is None else config.created,
            imported=imported,
        )

    def _config_of(self, digest: Digest) -> bytes:
        try:
            return self.blobs.read(digest)
        except CorruptError:
            if not self._database.read("SELECT 1 FROM images WHERE id = ?", digest):
                raise _not_found(digest) from None  # removed by another process in this moment
            raise

    def find(self, text: str) -> Image:
        """The image that somebody means: by ``NAME[:TAG]``, by ID with or without ``sha256:``, or by the beginning of one.

        Raises:
            NotFoundError: there is none.
            StoreError: the beginning is that of several IDs.
        """
        return self.get(self._resolve(text)[0])

    def all(self) -> list[Image]:
        """All images, the newest (by when they came) first."""
        images = []
        for (digest,) in self._database.read("SELECT id FROM images ORDER BY created DESC, id"):
            with contextlib.suppress(NotFoundError):  # removed by another process since
                images.append(self.get(Digest(digest)))
        return images

    def holder(self, name: Reference) -> Digest | None:
        """The image that has that name."""
        rows = self._database.read("SELECT image FROM image_names WHERE name = ? AND tag = ?", name.name, name.tag)
        return Digest(rows[0][0]) if rows else None

    def used_by(self, digest: Digest) -> tuple[str, ...]:
        """Names of the containers that were made of it."""
        rows = self._database.read("SELECT name FROM containers WHERE image = ? ORDER BY name", digest)
        return tuple(str(name) for (name,) in rows)

    def users_of(self, diff_id: Digest) -> tuple[Digest, ...]:
        """The images that have that layer."""
        rows = self._database.read("SELECT DISTINCT image FROM image_layers WHERE diff_id = ? ORDER BY image", diff_id)
        return tuple(Digest(image) for (image,) in rows)

    def tag(self, image: Digest, name: Reference) -> Digest | None:
        """Give ``image`` one more name; the image that lost it, if another one had it.

        Raises:
            NotFoundError: the image is gone.
        """
        try:
            with self._database.transaction() as connection:
                return _give_name(connection, image, name)
        except sqlite3.IntegrityError as error:
            raise _not_found(image) from error

    def remove(self, text: str, *, force: bool = False) -> Removal:
        """Take a name away, and with the last name (or by ID) the image; its layers go when nothing else has them (`Store.gc`).

        An image that containers use stays.  With ``force`` its names go all the same, and so do all names of an image given by
        ID; `prune` removes it after its last container.

        Raises:
            NotFoundError: there is none.
            InUseError: containers use it, or it has several names and was given by ID.
        """
        digest, name = self._resolve(text)
        with self._database.transaction() as connection:
            names = _names(connection, digest)
            users = _users(connection, digest)
            going = (name,) if name else names
            is_last = set(going) >= set(names)
            if not force:
                _refuse_use(text, users if is_last else (), () if name else names)
            connection.executemany("DELETE FROM image_names WHERE name = ? AND tag = ?", going)
            is_deleted = is_last and not users
            if is_deleted:
                connection.execute("DELETE FROM images WHERE id = ?", (digest,))
        if is_deleted:
            self.discard_blob(digest)
        return Removal(tuple(going), digest if is_deleted else None, users if is_last else ())

    def prune(self, *, named: bool = False) -> list[Removal]:
        """Remove the images that have no name, with ``named`` the others too, but none that a container uses."""
        wanted = "" if named else "AND id NOT IN (SELECT image FROM image_names)"
        query = f"SELECT id FROM images WHERE id NOT IN (SELECT image FROM containers) {wanted} ORDER BY created"  # noqa: S608
        removed = []
        with self._database.transaction() as connection:
            for (text,) in connection.execute(query).fetchall():
                removed.append(Removal(_names(connection, text), Digest(text)))
                connection.execute("DELETE FROM images WHERE id = ?", (text,))
        for removal in removed:
            assert removal.deleted is not None
            self.discard_blob(removal.deleted)
        return removed

    def discard_blob(self, digest: Digest) -> bool:
        """Remove the config of an image that is no more; whether it was that.

        Raises:
            OSError: it cannot be removed.
        """
        with self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (digest,)).fetchone():
                return False
            self.blobs.discard(digest)
        return True

    def _resolve(self, text: str) -> tuple[Digest, Reference | None]:
        """The image, and its name if that is what was given.  A name goes before the beginning of an ID, as with docker."""
        match = _ID.fullmatch(text)
        if not text.startswith("sha256:") and not (match and len(match[1]) == 64):
            name = parse_reference(text)
            digest = self.holder(name)
            if digest is not None:
                return digest, name
        if match is None:
            raise _not_found(text)
        # GLOB, not LIKE: it uses the index.  The pattern has hexadecimal digits alone.
        rows = self._database.read("SELECT id FROM images WHERE id GLOB ?", f"sha256:{match[1]}*")
        if len(rows) > 1:
            raise StoreError(
                text, f"is the beginning of {len(rows)} IDs", "give more digits (unionfs image ls --json shows them)"
            )
        if not rows:
            raise _not_found(text)
        return Digest(rows[0][0]), None


def _not_found(text: str) -> NotFoundError:
    return NotFoundError(text, "no such image", "unionfs image ls shows those there are")


def _insert(connection: sqlite3.Connection, digest: Digest, layers: Sequence[Digest]) -> None:
    is_new = connection.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (digest, time.time())).rowcount
    if is_new:
        rows = [(digest, position, diff_id) for position, diff_id in enumerate(layers)]
        connection.executemany("INSERT INTO image_layers VALUES (?, ?, ?)", rows)


def _give_name(connection: sqlite3.Connection, digest: Digest, name: Reference) -> Digest | None:
    before = connection.execute("SELECT image FROM image_names WHERE name = ? AND tag = ?", name).fetchone()
    connection.execute("INSERT OR REPLACE INTO image_names VALUES (?, ?, ?)", (*name, digest))
    return Digest(before[0]) if before and before[0] != digest else None


def _names(connection: sqlite3.Connection, digest: str) -> tuple[Reference, ...]:
    rows = connection.execute("SELECT name, tag FROM image_names WHERE image = ? ORDER BY name, tag", (digest,))
    return tuple(Reference(*row) for row in rows)


def _users(connection: sqlite3.Connection, digest: str) -> tuple[str, ...]:
    return tuple(name for (name,) in connection.execute("SELECT name FROM containers WHERE image = ? ORDER BY name", (digest,)))


def _refuse_use(text: str, users: Sequence[str], names: Sequence[Reference]) -> None:
    if users:
        remedy = "remove them first (unionfs rm), or use --force to take its names away"
        raise InUseError(text, f"used by containers: {', '.join(users)}", remedy)
    if len(names) > 1:
        raise InUseError(
            text, f"has several names: {', '.join(map(str, names))}", "remove one by one, or use --force to remove all"
        )
