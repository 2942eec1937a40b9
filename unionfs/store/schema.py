"""The tables of the store's database, version by version."""

from __future__ import annotations

_LAYERS_TO_CONTAINERS = """
CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,           -- digest of the uncompressed tar
    tar_size INTEGER NOT NULL,          -- bytes of that tar
    unpacked_size INTEGER NOT NULL,     -- bytes that its directory takes
    entries INTEGER NOT NULL,
    created REAL NOT NULL               -- seconds since the epoch, as all times here
) STRICT;
CREATE TABLE images (
    id TEXT PRIMARY KEY,                -- digest of its config, which is in blobs/
    created REAL NOT NULL               -- when it came into the store
) STRICT;
CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position INTEGER NOT NULL,          -- 0 is the bottom
    diff_id TEXT NOT NULL REFERENCES layers,
    PRIMARY KEY (image, position)
) STRICT;
CREATE INDEX image_layers_by_layer ON image_layers (diff_id);
CREATE TABLE image_names (
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    PRIMARY KEY (name, tag)
) STRICT;
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- its directory in snapshots/, never used twice
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
    parent TEXT REFERENCES snapshots (name),
    driver TEXT NOT NULL,
    diff_id TEXT REFERENCES layers,     -- of a committed one: the layer that it adds to its parent
    size_limit INTEGER,                 -- bytes that an active one may take, NULL: no limit
    labels TEXT NOT NULL DEFAULT '{}',  -- JSON
    created REAL NOT NULL
) STRICT;
CREATE INDEX snapshots_by_parent ON snapshots (parent);
CREATE INDEX snapshots_by_layer ON snapshots (diff_id);
CREATE TABLE containers (
    id TEXT PRIMARY KEY,                -- 64 hexadecimal digits
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL REFERENCES images,
    snapshot TEXT NOT NULL UNIQUE REFERENCES snapshots (name),
    options TEXT NOT NULL,              -- JSON
    created REAL NOT NULL
) STRICT;
CREATE INDEX containers_by_image ON containers (image);
"""

_VOLUMES = """
CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    driver TEXT NOT NULL,
    options TEXT NOT NULL,              -- JSON, as given
    labels TEXT NOT NULL,               -- JSON
    anonymous INTEGER NOT NULL,
    filling TEXT NOT NULL CHECK (filling IN ('new', 'copying', 'done')),
    created REAL NOT NULL
) STRICT;
CREATE TABLE volume_references (        -- containers that name a volume, running or not
    volume TEXT NOT NULL REFERENCES volumes,
    container TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
    PRIMARY KEY (volume, container)
) STRICT;
CREATE INDEX volume_references_by_container ON volume_references (container);
CREATE TABLE volume_mounts (            -- who has a volume mounted
    volume TEXT NOT NULL REFERENCES volumes ON DELETE CASCADE,
    user TEXT NOT NULL,                 -- container:ID or plugin:ID
    count INTEGER NOT NULL,             -- how often
    peer_pid INTEGER,                   -- the process that asked for it
    peer_started INTEGER,
    boot TEXT NOT NULL,                 -- no mount outlives the boot it was made in
    since REAL NOT NULL,
    PRIMARY KEY (volume, user)
) STRICT;
CREATE INDEX volume_mounts_by_user ON volume_mounts (user);
CREATE TABLE volume_bases (             -- volumes that stand on others
    volume TEXT NOT NULL REFERENCES volumes ON DELETE CASCADE,
    base TEXT NOT NULL REFERENCES volumes,
    PRIMARY KEY (volume, base)
) STRICT;
CREATE INDEX volume_bases_by_base ON volume_bases (base);
CREATE TABLE volume_layers (            -- volumes that stand on the layers of an image
    volume TEXT NOT NULL REFERENCES volumes ON DELETE CASCADE,
    position INTEGER NOT NULL,          -- 0 is the bottom
    diff_id TEXT NOT NULL REFERENCES layers,
    PRIMARY KEY (volume, position)
) STRICT;
CREATE INDEX volume_layers_by_layer ON volume_layers (diff_id);
"""

VERSIONS = (_LAYERS_TO_CONTAINERS, _VOLUMES)
"""What makes version N + 1 out of version N, at index N; version 0 is an empty database.  Written once, never changed."""
