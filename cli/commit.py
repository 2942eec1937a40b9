"""``unionfs commit``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.store_option import container_option


@click.command()
@container_option
@click.option("-m", "--message", default="", help="A note for the image's history.")
@click.option("-a", "--author", default="", help="Who made it.")
@click.option(
    "-c", "--change", "changes", metavar="INSTRUCTION", multiple=True, help="A line of a Dockerfile: CMD, ENV, USER and the like."
)
@click.argument("container")
@click.argument("image", metavar="[IMAGE[:TAG]]", required=False)
def commit(root: Path | None, message: str, author: str, changes: tuple[str, ...], container: str, image: str | None) -> None:
    """Make an image of the changes of CONTAINER.

    It has the layers of the image of CONTAINER, and the changes as one more.

    Prints the ID of the image.  A container that runs is paused meanwhile.  Equal changes make equal layers, byte for byte; the
    time in the image is SOURCE_DATE_EPOCH, if that is set.

    \b
    Example:
      unionfs commit -m "with curl" -c 'CMD ["curl"]' web site/curl:1.0
    """
    from unionfs.containers.commit import commit as commit_container
    from unionfs.store.location import store_root
    from unionfs.store.reference import parse_reference

    reference = parse_reference(image) if image else None
    made = commit_container(store_root(root), container, reference, message=message, author=author, changes=changes)
    click.echo(made.id)
