"""``unionfs volume``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unionfs.cli.output import print_json, print_table
from unionfs.cli.store_option import store_option
from unionfs.cli.units import size_text, time_text
from unionfs.mounter.errors import MounterError

if TYPE_CHECKING:
    from unionfs.volumes import Volume, VolumeManager

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_FILTER = click.option(
    "-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only those: name, driver, label, label!, dangling."
)
_NAMES = click.argument("names", metavar="VOLUME...", nargs=-1, required=True)


@click.group(no_args_is_help=True)
def volume() -> None:
    """Make, show and remove volumes, which outlive containers.

    \b
    Example:
      unionfs volume create data
      unionfs run --rm -v data:/data debian:12 touch /data/x
      unionfs volume rm data
    """


@contextlib.contextmanager
def _opened(root: Path | None) -> Iterator[VolumeManager]:
    """The volumes of a store, put in order after killed containers."""
    from unionfs.containers.container import Containers
    from unionfs.containers.recovery import recover
    from unionfs.store.store import open_store
    from unionfs.volumes import open_volumes

    with open_store(root) as store:
        recover(store, Containers(store.root, store.database))
        yield open_volumes(store)


@volume.command()
@store_option
@click.option("-d", "--driver", default="local", show_default=True, help="local, overlay, or the name of a volume plugin.")
@click.option("-o", "--opt", "options", metavar="NAME=VALUE", multiple=True, help="An option of the driver.")
@click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="A note on the volume.")
@click.option("--name", "name_option", metavar="NAME", hidden=True)
@click.argument("name", required=False)
def create(
    root: Path | None, driver: str, options: tuple[str, ...], labels: tuple[str, ...], name_option: str | None, name: str | None
) -> None:
    """Make a volume, called NAME or by a made-up name, and print its name.

    A volume that is there already with the same driver and options is no error.

    \b
    Example:
      unionfs volume create --label project=site data
      unionfs volume create -o type=tmpfs -o device=tmpfs -o o=size=100m,uid=1000 scratch
      unionfs volume create --driver overlay -o lower=/srv/dataset mine
    """
    from unionfs.containers.options import parse_labels

    if name is not None and name_option is not None:
        raise click.UsageError("the name is given twice: as --name and as an argument")
    with _opened(root) as volumes:
        made = volumes.create(name or name_option, driver, _pairs(options), parse_labels(labels))
    click.echo(made.name)


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    from unionfs.store.errors import wrong_usage

    pairs = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not name or not separator:
            raise wrong_usage(word, "not an option of a driver", "write --opt NAME=VALUE")
        pairs[name] = value
    return pairs


@volume.command()
@store_option
@_FILTER
@click.option("-q", "--quiet", is_flag=True, help="Only the names.")
@_JSON
def ls(root: Path | None, filters: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """List volumes, also those that only a volume plugin has.

    \b
    Example:
      unionfs volume ls -f dangling=true -q
      unionfs volume ls -f label=project=site
    """
    from unionfs.volumes.filters import parse_filters

    with _opened(root) as volumes:
        found = volumes.listed(parse_filters(filters))
        described = [_described(volumes, one) for one in found] if as_json else []
        rows = [(one.driver, one.name, _created(one), ", ".join(volumes.users(one.name))) for one in found]
    if as_json:
        print_json(described)
    elif quiet:
        for one in found:
            click.echo(one.name)
    else:
        print_table(("driver", "name", "created", "used by"), rows)


@volume.command()
@store_option
@_NAMES
def inspect(root: Path | None, names: tuple[str, ...]) -> None:
    """Show all about each VOLUME, as JSON.

    \b
    Example:
      unionfs volume inspect data | jq -r '.[].mountpoint'
    """
    with _opened(root) as volumes:
        described = [_described(volumes, volumes.find(name)) for name in names]
    print_json(described)


def _created(one: Volume) -> str:
    return time_text(one.created) if one.created else ""  # a plugin need not say


def _described(volumes: VolumeManager, one: Volume) -> dict[str, Any]:
    mountpoint = volumes.mountpoint(one)
    return {
        "name": one.name,
        "driver": one.driver,
        "scope": volumes.scope(one),
        "mountpoint": None if mountpoint is None else str(mountpoint),
        "options": {key: _shown(value) for key, value in one.options.items()},
        "labels": one.labels,
        "anonymous": one.anonymous,
        "created": one.created or None,
        "used_by": volumes.users(one.name),
        "mounts": [{"user": each.user, "count": each.count, "since": each.since} for each in volumes.mounts(one.name)],
        "status": dict(volumes.status(one)),
    }


def _shown(value: str) -> str:
    from unionfs.volumes.drivers.mount_options import without_secrets

    return without_secrets(value)


@volume.command()
@store_option
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="No error for a volume that is not there; release what ended engines hold; forget what a plugin has lost.",
)
@_NAMES
def rm(root: Path | None, force: bool, names: tuple[str, ...]) -> int:
    """Remove each VOLUME with its data.  One that is used stays, and the message says by whom.

    \b
    Example:
      unionfs volume rm data
    """
    from unionfs.store.errors import NotFoundError

    status = 0
    with _opened(root) as volumes:
        for name in names:
            try:
                volumes.remove(volumes.find(name).name, force=force)
            except NotFoundError as error:
                status = status if force else _tell(error)
            except MounterError as error:
                status = _tell(error)
            else:
                click.echo(name)
    return status


def _tell(error: MounterError) -> int:
    click.echo(f"unionfs: {error}", err=True)
    return 1


@volume.command()
@store_option
@click.option("-a", "--all", "named_too", is_flag=True, help="Named ones too, not only those without a name of their own.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only those: label, label!, name, driver.")
@_JSON
def prune(root: Path | None, named_too: bool, force: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """Remove the volumes that nobody uses, with their data.

    \b
    Example:
      unionfs volume prune --force
      unionfs volume prune --all --filter label=temporary
    """
    from unionfs.volumes.filters import parse_filters
    from unionfs.volumes.upkeep import prune as prune_volumes

    chosen = parse_filters(filters)
    if not force:
        what = "all volumes" if named_too else "all anonymous volumes"
        click.confirm(f"Remove {what} that nobody uses, with their data?", abort=True, err=True)
    with _opened(root) as volumes:
        pruned = prune_volumes(volumes, chosen, named_too=named_too)
    if as_json:
        print_json({"removed": list(pruned.names), "freed": pruned.freed})
        return
    for name in pruned.names:
        click.echo(name)
    click.echo(f"freed {size_text(pruned.freed)}")


@volume.command()
@store_option
@click.argument("name", metavar="VOLUME")
@click.argument("users", metavar="[USER...]", nargs=-1)
def release(root: Path | None, name: str, users: tuple[str, ...]) -> None:
    """Forget that foreign engines have VOLUME mounted: each USER, or all that have ended.

    Those have ended whose process has, if nobody has the volume's data mounted.
    An engine that was killed never says that it needs a volume no longer.  "unionfs volume inspect" shows the users.

    \b
    Example:
      unionfs volume release data plugin:3f1c
    """
    from unionfs.store.errors import NotFoundError
    from unionfs.volumes.stale import stale_mounts

    with _opened(root) as volumes:
        mounts = {each.user: each for each in volumes.mounts(volumes.get(name).name) if each.user.startswith("plugin:")}
        for user in users:
            if user not in mounts:
                raise NotFoundError(user, f"has {name} not mounted", "unionfs volume inspect shows the users")
        for user in users or [mount.user for mount in stale_mounts(volumes, name)]:
            volumes.release_one(name, user)
            click.echo(user)
