"""``unionfs snapshot``."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from unionfs.cli.output import print_json, print_table


class _SnapshotGroup(click.Group):
    """``snapshot MERGED`` means ``snapshot take MERGED``."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["take", *args]
        return super().resolve_command(ctx, args)


_MERGED = click.argument("merged", type=click.Path(path_type=Path))


@click.group(cls=_SnapshotGroup, no_args_is_help=True, subcommand_metavar="MERGED [NAME] | ls|diff|rollback|rm|merge …")
def snapshot() -> None:
    """Keep the state of a running union as a layer.

    What the upper is now becomes a read-only layer, and the union goes on with an empty one.

    What was the upper becomes its topmost lower layer; open files, mappings and running programs go on.  The upper keeps its
    path, its snapshots are found again when it is mounted.

    \b
    Example:
      unionfs snapshot /mnt before-upgrade
      unionfs snapshot diff /mnt before-upgrade
      unionfs snapshot rollback /mnt before-upgrade
    """


@snapshot.command()
@_MERGED
@click.argument("name", required=False)
def take(merged: Path, name: str | None) -> None:
    """Take a snapshot of the running union on MERGED, called NAME (or by its number).

    \b
    Example:
      unionfs snapshot take /mnt ls
    """
    from unionfs.mounter.snapshots import take_snapshot

    taken = take_snapshot(merged, name)
    click.echo(taken.name)
    if not taken.consistent:
        click.echo("unionfs: some files were written all the time, so they are not all of one moment", err=True)


@snapshot.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_MERGED
def ls_(as_json: bool, merged: Path) -> None:
    """List the snapshots of the union on MERGED, or of the upper MERGED, oldest first.

    \b
    Example:
      unionfs snapshot ls /mnt
      unionfs snapshot ls --json /srv/changes | jq -r '.[].layer'
    """
    from unionfs.mounter.snapshots import list_snapshots

    listed = list_snapshots(merged)
    if as_json:
        print_json(
            [
                {
                    "number": item.number,
                    "name": item.about.name,
                    "created": item.about.created,
                    "layer": str(item.layer),
                    "below": list(item.below),
                    "in_use": is_below,
                    "consistent": item.about.is_consistent,
                }
                for item, is_below in listed
            ]
        )
        return
    rows = [
        (
            item.number,
            item.about.name,
            datetime.datetime.fromtimestamp(item.about.created).strftime("%Y-%m-%d %H:%M:%S"),
            "yes" if is_below else "no",
            item.layer,
        )
        for item, is_below in listed
    ]
    print_table(("number", "name", "created", "in use", "layer"), rows)


@snapshot.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_MERGED
@click.argument("old")
@click.argument("new", required=False)
def diff(as_json: bool, merged: Path, old: str, new: str | None) -> None:
    """Show what was added (A), modified (M) and deleted (D) since snapshot OLD, until NEW or now.

    \b
    Example:
      unionfs snapshot diff /mnt before-upgrade
      unionfs snapshot diff /mnt monday tuesday
    """
    import os

    from unionfs.mounter.errors import printable
    from unionfs.mounter.snapshots import snapshot_changes

    changes = [(change.kind, os.fsdecode(change.path)) for change in snapshot_changes(merged, old, new)]
    if as_json:
        print_json([{"change": kind, "path": path} for kind, path in changes])
    for kind, path in () if as_json else changes:
        click.echo(f"{kind} {printable(path)}")


_UNION = click.argument("union", type=click.Path(path_type=Path))


@snapshot.command()
@click.option("--discard", is_flag=True, help="Do not keep what there is now as another snapshot.")
@click.option("--force", is_flag=True, help="Also if files are open for writing: they go on as removed ones.")
@_UNION
@click.argument("name")
def rollback(discard: bool, force: bool, union: Path, name: str) -> None:
    """Let UNION (a mount point, or an upper) show again what it did when snapshot NAME was taken.

    What it is now becomes a snapshot, whose name is printed.  Open files of a mounted union keep their data.

    \b
    Example:
      unionfs snapshot rollback /mnt before-upgrade
    """
    from unionfs.mounter.snapshots import rollback as carry_out

    kept = carry_out(union, name, discard=discard, force=force)
    if kept is not None:
        click.echo(kept)


@snapshot.command()
@_UNION
@click.argument("name")
def rm(union: Path, name: str) -> None:
    """Remove snapshot NAME of UNION (a mount point, or an upper); refused while anything is built on it.

    \b
    Example:
      unionfs snapshot rm /mnt before-upgrade
    """
    from unionfs.mounter.snapshots import remove_snapshot

    remove_snapshot(union, name)


@snapshot.command()
@_UNION
@click.argument("old")
@click.argument("new")
def merge(union: Path, old: str, new: str) -> None:
    """Make one layer of the snapshots of UNION (a mount point, or an upper) from OLD up to NEW, which keeps its name.

    What is shown stays the same; what one had and a later one deleted takes no space any more.

    \b
    Example:
      unionfs snapshot merge /mnt monday friday
    """
    from unionfs.mounter.snapshots import merge as carry_out

    carry_out(union, old, new)
