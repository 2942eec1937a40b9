"""Chain IDs: what names a stack of layers (OCI image specification, config.md, "Layer ChainID")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from unionfs.store.digest import Digest, digest_of


def chain_ids(layers: Iterable[Digest]) -> Iterator[Digest]:
    """The chain ID of each layer over all those before it; ``layers`` are diff IDs, bottom first."""
    below: Digest | None = None
    for diff_id in layers:
        # That of the lowest layer is its diff ID itself.
        below = diff_id if below is None else digest_of(f"{below} {diff_id}".encode())
        yield below
