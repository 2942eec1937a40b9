"""``unionfs doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from unionfs.cli.output import print_json
from unionfs.cli.store_option import root_option
from unionfs.mounter.errors import printable

if TYPE_CHECKING:
    from unionfs.mounter.finding import Finding


@click.command()
@root_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
def doctor(root: Path | None, as_json: bool, directory: Path) -> int:
    """Probe what this machine can do, and what is out of order.

    What it can do for a union is probed, and the volumes of the store are looked at, if there is one.
    DIRECTORY (by default the current one) is where the upper would be; its filesystem is probed too.  Each probe that fails
    comes with its remedy, and the exit status is 1 then.

    \b
    Example:
      unionfs doctor /srv
      unionfs doctor --json | jq '.[] | select(.ok | not)'
    """
    from unionfs.mounter.probes import probes

    found = [(probe.name, probe.run()) for probe in probes(directory)] + _volumes(root)
    if as_json:
        print_json([{"name": name, **finding._asdict()} for name, finding in found])
    else:
        for name, finding in found:
            _print_finding(name, finding)
    return 0 if all(finding.ok for _, finding in found) else 1


def _volumes(root: Path | None) -> list[tuple[str, Finding]]:
    """Of a store that is there; none is made for this."""
    from unionfs.store.database import NAME
    from unionfs.store.location import store_root
    from unionfs.store.store import open_store
    from unionfs.volumes import open_volumes
    from unionfs.volumes.upkeep import findings

    place = store_root(root)
    if not (place / NAME).exists():
        return []
    with open_store(place) as store:
        return findings(open_volumes(store))


def _print_finding(name: str, finding: Finding) -> None:
    mark = click.style("ok    ", fg="green") if finding.ok else click.style("FAILED", fg="red")
    click.echo(f"{mark}  {name}: {printable(finding.detail)}")
    if finding.remedy:
        click.echo(f"        {printable(finding.remedy)}")
