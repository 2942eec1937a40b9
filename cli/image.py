"""``unionfs image``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unionfs.cli.output import print_json, print_pairs, print_table
from unionfs.cli.progress import progress_bars
from unionfs.cli.store_option import store_option
from unionfs.cli.units import figure_text, size_text, time_text

if TYPE_CHECKING:
    from unionfs.store.digest import Digest
    from unionfs.store.images import Image, Removal
    from unionfs.store.reference import Reference
    from unionfs.store.sizes import Sizes
    from unionfs.store.store import Store


@click.group(no_args_is_help=True)
def image() -> None:
    """Bring images in, list them, take them out.

    \b
    Example:
      unionfs image import rootfs.tar.gz site/base:1.0
      unionfs image ls
    """


@image.command("import")
@store_option
@click.option("--image", "selected", metavar="NAME", help="Which image of SOURCE, by its name there, where it has several.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("name", metavar="NAME[:TAG]")
def import_(root: Path | None, selected: str | None, source: Path, name: str) -> None:
    """Import an image from SOURCE and call it NAME.

    SOURCE is an OCI layout (directory or tar), an archive of "docker save", or a root filesystem (directory or tar); the tars
    may be compressed with gzip or zstd.  What it is shows in what it holds.  A NAME that another image has moves to the new one.

    \b
    Example:
      unionfs image import rootfs.tar.gz site/base:1.0
      docker save site/web | gzip >web.tar.gz; unionfs image import web.tar.gz site/web
    """
    from unionfs.store.reference import parse_reference
    from unionfs.store.sources.archive import import_image
    from unionfs.store.store import open_store

    reference = parse_reference(name)
    with open_store(root) as store, progress_bars() as progress:
        before = store.images.holder(reference)
        made = import_image(store, source, reference, progress, selected=selected)
        _tell_skipped(store, made)
    _tell_named(made, reference, before)


@image.command()
@store_option
@click.option("--tls-verify", type=bool, default=True, show_default=True, help="Whether the registry must show a certificate.")
@click.option(
    "--authfile",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Credentials as skopeo login writes them.  [default: REGISTRY_AUTH_FILE, else skopeo's]",
)
@click.argument("reference", metavar="REF")
@click.argument("name", metavar="[NAME[:TAG]]", required=False)
def pull(root: Path | None, tls_verify: bool, authfile: Path | None, reference: str, name: str | None) -> None:
    """Fetch the image REF through skopeo.

    REF is what "podman pull" takes, or anything that "skopeo copy" reads (oci:DIR, docker-archive:FILE and so on; these need a
    NAME).

    \b
    Example:
      unionfs image pull docker.io/library/debian:12
      unionfs image pull oci:/srv/layout:web site/web
    """
    import sys

    from unionfs.store.pull import RegistryAccess, name_of, pull_image
    from unionfs.store.reference import parse_reference
    from unionfs.store.store import open_store

    chosen = parse_reference(name) if name else name_of(reference)
    with open_store(root) as store:
        before = store.images.holder(chosen)
        access = RegistryAccess(tls_verify, authfile)
        show = sys.stderr.isatty() and sys.stdout.isatty()
        with progress_bars() as progress:
            made = pull_image(store, reference, chosen, progress, access=access, show=show)
        _tell_skipped(store, made)
    _tell_named(made, chosen, before)


def _tell_skipped(store: Store, made: Image) -> None:
    from unionfs.store.sizes import skipped_of

    skipped = skipped_of(store, made)
    if skipped is not None:
        remedy = "import it as root, or with subordinate ids (/etc/subuid)"
        click.echo(f"unionfs: {made.label}: {skipped}; {remedy}", err=True)


def _tell_named(made: Image, name: Reference, before: Digest | None) -> None:
    click.echo(f"{name}: {made.id}")
    if before is not None and before != made.id:
        click.echo(f"{name} was {before.short} before, which stays without that name (unionfs image prune removes it)")


@image.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sizes in bytes.")
def ls(root: Path | None, as_json: bool) -> None:
    """List the images.

    Of an image's size, "shared" is what other images use too and is on the disk once, "unique" is what it has alone.

    \b
    Example:
      unionfs image ls
      unionfs image ls --json | jq '.[] | [.names[0], .unique]'
    """
    from unionfs.store.sizes import sizes_of
    from unionfs.store.store import open_store

    with open_store(root) as store:
        images = store.images.all()
        sizes = sizes_of(store, images)
    if as_json:
        print_json([_listed(one, sizes[one.id]) for one in images])
        return
    rows = [
        (name or "<none>", one.id.short, time_text(one.created), *map(size_text, _figures(sizes[one.id])))
        for one in images
        for name in one.names or (None,)
    ]
    print_table(("name", "id", "created", "size", "shared", "unique"), rows)


def _figures(sizes: Sizes) -> tuple[int, int, int]:
    return sizes.total, sizes.shared, sizes.unique


def _listed(one: Image, sizes: Sizes) -> dict[str, object]:
    return {
        "id": one.id,
        "names": [str(name) for name in one.names],
        "created": one.created,
        "imported": one.imported,
        "size": sizes.total,
        "shared": sizes.shared,
        "unique": sizes.unique,
    }


@image.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the whole config.")
@click.argument("name", metavar="IMAGE")
def inspect(root: Path | None, as_json: bool, name: str) -> None:
    """Show all about IMAGE, a name or the beginning of an ID.

    \b
    Example:
      unionfs image inspect site/web:1.0 --json | jq .config.config.Cmd
    """
    from unionfs.store.store import open_store

    with open_store(root) as store:
        found = _described(store, store.images.find(name))
    if as_json:
        print_json(found)
        return
    config, layers = found.pop("config"), found.pop("layers")
    assert isinstance(config, dict)
    assert isinstance(layers, list)
    print_pairs([(key, figure_text(key, value)) for key, value in found.items()])
    print_pairs([(key, value if isinstance(value, str) else json.dumps(value)) for key, value in _settings(config).items()])
    print_table(("layer", "size"), [(layer["diff_id"], size_text(layer["size"])) for layer in reversed(layers)])


def _settings(config: dict[str, object]) -> dict[str, object]:
    settings = config.get("config")
    return settings if isinstance(settings, dict) else {}


def _described(store: Store, one: Image) -> dict[str, object]:
    from unionfs.store.sizes import sizes_of, skipped_of

    sizes = sizes_of(store, store.images.all())[one.id]
    skipped = skipped_of(store, one)
    layers = [store.layers.get(diff_id) for diff_id in one.layers]
    return {
        **_listed(one, sizes),
        "platform": str(one.config.platform),
        "containers": list(store.images.used_by(one.id)),
        "skipped": str(skipped) if skipped else None,
        "layers": [{"diff_id": layer.diff_id, "size": layer.unpacked_size, "tar_size": layer.tar_size} for layer in layers],
        "config": one.config.raw,
    }


@image.command()
@store_option
@click.option("-f", "--force", is_flag=True, help="Take all names away, also of an image that containers use.")
@click.argument("names", metavar="IMAGE…", nargs=-1, required=True)
def rm(root: Path | None, force: bool, names: tuple[str, ...]) -> None:
    """Remove images, by name or ID.

    Of an image with several names the given one is taken away.  With the last name the image goes, and so do the layers that
    only it has.

    \b
    Example:
      unionfs image rm site/web:1.0
    """
    from unionfs.cli.collecting import collect_all
    from unionfs.store.store import open_store

    with open_store(root) as store:
        try:
            for name in names:
                _tell_removal(store.images.remove(name, force=force))
        finally:
            collect_all(store)


@image.command()
@store_option
@click.option("-a", "--all", "named", is_flag=True, help="Also images that have a name, where no container uses them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(root: Path | None, named: bool, as_json: bool) -> None:
    """Remove images that have no name and that no container uses.

    \b
    Example:
      unionfs image prune
    """
    from unionfs.cli.collecting import collect_all
    from unionfs.store.store import open_store

    with open_store(root) as store:
        removals = store.images.prune(named=named)
        freed = collect_all(store).freed
    if as_json:
        print_json({"images": [removal.deleted for removal in removals], "freed": freed})
        return
    for removal in removals:
        _tell_removal(removal)
    click.echo(f"freed {size_text(freed)}")


def _tell_removal(removal: Removal) -> None:
    for name in removal.untagged:
        click.echo(f"untagged: {name}")
    if removal.deleted:
        click.echo(f"deleted: {removal.deleted}")
    elif removal.used_by:
        click.echo(f"kept without a name for its containers: {', '.join(removal.used_by)}")


@image.command()
@store_option
@click.argument("name", metavar="IMAGE")
@click.argument("new", metavar="NAME[:TAG]")
def tag(root: Path | None, name: str, new: str) -> None:
    """Give IMAGE one more name.

    \b
    Example:
      unionfs image tag site/web:1.0 site/web:stable
    """
    from unionfs.store.reference import parse_reference
    from unionfs.store.store import open_store

    reference = parse_reference(new)
    with open_store(root) as store:
        found = store.images.find(name)
        before = store.images.tag(found.id, reference)
    _tell_named(found, reference, before)


@image.command()
@store_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["oci", "oci-dir", "docker"]),
    default="oci",
    show_default=True,
    help="A tar with an OCI layout, a directory with one, or an archive as docker save makes it.",
)
@click.argument("name", metavar="IMAGE")
@click.argument("target", type=click.Path(path_type=Path))
def export(root: Path | None, kind: str, name: str, target: Path) -> None:
    """Write IMAGE to TARGET, which must not be there yet.

    Image ID and diff IDs stay as they are, and the same image gives the same bytes each time.

    \b
    Example:
      unionfs image export site/web:1.0 web.tar && skopeo inspect oci-archive:web.tar
      unionfs image export --format docker site/web:1.0 web.tar && docker load -i web.tar
    """
    from unionfs.store.export import Format, export_image
    from unionfs.store.leases import adding
    from unionfs.store.store import open_store

    chosen: Format = kind  # type: ignore[assignment]
    # What is read must not be collected meanwhile, even if somebody removes the image.
    with open_store(root) as store, adding(store.root), progress_bars() as progress:
        found = store.images.find(name)
        names = [one for one in found.names if name in (str(one), one.name)] or None
        export_image(store, found, target, chosen, names=names, progress=progress)
