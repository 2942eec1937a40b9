"""``unionfs layers``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.output import print_json, print_table


@click.group(no_args_is_help=True, subcommand_metavar="list|add|remove …")
@click.argument("merged", type=click.Path(path_type=Path))
@click.pass_context
def layers(ctx: click.Context, merged: Path) -> None:
    """Show and change the layers of the running union on MERGED.

    What is added or removed counts until the unmount: a new mount begins with the layers it is given.

    \b
    Example:
      unionfs layers /mnt list
      unionfs layers /mnt add --top /srv/patches
      unionfs layers /mnt remove /srv/base
    """
    ctx.obj = merged


@layers.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(merged: Path, as_json: bool) -> None:
    """List the layers, the topmost first.

    \b
    Example:
      unionfs layers /mnt list --json | jq -r '.[].path'
    """
    from unionfs.mounter.layers import list_layers

    found = list_layers(merged)
    if as_json:
        print_json([{"layer": layer.label, "path": layer.path} for layer in found])
    else:
        print_table(("layer", "path"), found)


@layers.command()
@click.option("--top", "place", flag_value="top", help="Above the other lowers: it hides what they have of the same name.")
@click.option("--bottom", "place", flag_value="bottom", default=True, help="Below them (the default): it only adds names.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.pass_obj
def add(merged: Path, place: str, directory: Path) -> None:
    """Add DIRECTORY as a lower layer.

    A file that is open while a layer hides it stays as it is for those who have it open.

    \b
    Example:
      unionfs layers /mnt add --top /srv/patches
    """
    from unionfs.mounter.layers import add_layer

    add_layer(merged, directory, top=place == "top")


@layers.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.pass_obj
def remove(merged: Path, directory: Path) -> None:
    """Remove the lower layer DIRECTORY, which is then no longer in use.

    Refused while a file of it is open, a directory that only it has is somebody's current one, or something is mounted there.

    \b
    Example:
      unionfs layers /mnt remove /srv/base
    """
    from unionfs.mounter.layers import remove_layer

    remove_layer(merged, directory)
