"""``unionfs diff``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.output import print_json
from unionfs.cli.store_option import become_root, root_option
from unionfs.mounter.errors import printable


@click.command()
@root_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("target", metavar="CONTAINER|MERGED|UPPER")
def diff(root: Path | None, as_json: bool, target: str) -> None:
    """List what a writable layer changes.

    Paths that it adds (A), modifies (M) and deletes (D).

    Of a container, of a mounted union, or of an upper directory (a path with a slash in it).  Of an upper that no union of ours
    uses now, what is modified is told by the marks that copying left; a file that was deleted and made anew then counts as
    added.

    \b
    Example:
      unionfs diff web
      unionfs diff /mnt
      unionfs diff --json /srv/changes | jq -r '.[] | select(.kind == "D") | .path'
    """
    from unionfs.containers.diff_target import diff as changes_of
    from unionfs.store.location import store_root

    if "/" not in target:  # what is no container is the user's own
        become_root(is_needed=True)
    changes = changes_of(store_root(root), target)
    if as_json:
        print_json([change._asdict() for change in changes])
        return
    for kind, path in changes:
        click.echo(f"{kind} {printable(path)}")
