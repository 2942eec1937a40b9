"""``unionfs layer``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unionfs.cli.output import print_json, print_pairs, print_table
from unionfs.cli.store_option import store_option
from unionfs.cli.units import figure_text, size_text, time_text

if TYPE_CHECKING:
    from unionfs.store.layers import Layer
    from unionfs.store.store import Store


@click.group(no_args_is_help=True)
def layer() -> None:
    """Show and verify the layers of the store.

    \b
    Example:
      unionfs layer ls
      unionfs layer verify
    """


@layer.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sizes in bytes.")
def ls(root: Path | None, as_json: bool) -> None:
    """List the layers, with the images that use them.

    \b
    Example:
      unionfs layer ls --json | jq -r '.[].diff_id'
    """
    from unionfs.store.store import open_store

    with open_store(root) as store:
        found = [_described(store, one) for one in store.layers.all()]
    if as_json:
        print_json(found)
        return
    rows = [
        (one["diff_id"], size_text(one["size"]), size_text(one["tar_size"]), time_text(one["created"]), len(one["images"]))
        for one in found
    ]
    print_table(("diff ID", "size", "tar", "created", "images"), rows)


@layer.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("diff_id")
def inspect(root: Path | None, as_json: bool, diff_id: str) -> None:
    """Show all about the layer DIFF_ID, or the only one whose ID begins so.

    \b
    Example:
      unionfs layer inspect 3f2a
    """
    from unionfs.store.store import open_store

    with open_store(root) as store:
        found = _described(store, store.layers.find(diff_id))
    if as_json:
        print_json(found)
    else:
        print_pairs([(key, figure_text(key, value)) for key, value in found.items()])


@layer.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("diff_ids", metavar="[DIFF_ID…]", nargs=-1)
def verify(root: Path | None, as_json: bool, diff_ids: tuple[str, ...]) -> int:
    """See whether layers are as they came; all of them where none is given.

    Their tars are put together again and hashed, and owners, modes, times, attributes, types and names of the files are compared
    with what those say.  The exit status is 1 if a layer is damaged.

    \b
    Example:
      unionfs layer verify
    """
    from unionfs.store.errors import CorruptError
    from unionfs.store.leases import adding
    from unionfs.store.store import open_store

    results: list[tuple[str, str | None]] = []
    # None of them goes while it is read.
    with open_store(root) as store, adding(store.root):
        chosen = [store.layers.find(text) for text in diff_ids] if diff_ids else store.layers.all()
        for one in chosen:
            try:
                store.layers.verify(one.diff_id)
                results.append((one.diff_id, None))
            except CorruptError as error:
                results.append((one.diff_id, str(error)))
    if as_json:
        print_json([{"diff_id": diff_id, "ok": problem is None, "problem": problem} for diff_id, problem in results])
    else:
        print_table(("diff ID", "problem"), [(diff_id, problem or "ok") for diff_id, problem in results])
    return 1 if any(problem for _, problem in results) else 0


def _described(store: Store, one: Layer) -> dict[str, object]:
    from unionfs.store.errors import NotFoundError

    skipped = store.layers.skipped(one.diff_id)
    images = []
    for digest in store.images.users_of(one.diff_id):
        with contextlib.suppress(NotFoundError):  # removed by another process since
            images.append(store.images.get(digest))
    return {
        "diff_id": one.diff_id,
        "path": str(one.path),
        "size": one.unpacked_size,
        "tar_size": one.tar_size,
        "created": one.created,
        "skipped": str(skipped) if skipped else None,
        "images": [image.label for image in images],
    }
