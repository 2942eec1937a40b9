"""``unionfs doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from unionfs.cli.output import print_json
from unionfs.mounter.errors import printable

if TYPE_CHECKING:
    from unionfs.mounter.finding import Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
def doctor(as_json: bool, directory: Path) -> int:
    """Probe what this machine can do for a union.

    DIRECTORY (by default the current one) is where the upper would be; its filesystem is probed too.  Each probe that fails
    comes with its remedy, and the exit status is 1 then.

    \b
    Example:
      unionfs doctor /srv
      unionfs doctor --json | jq '.[] | select(.ok | not)'
    """
    from unionfs.mounter.probes import probes

    found = [(probe.name, probe.run()) for probe in probes(directory)]
    if as_json:
        print_json([{"name": name, **finding._asdict()} for name, finding in found])
    else:
        for name, finding in found:
            _print_finding(name, finding)
    return 0 if all(finding.ok for _, finding in found) else 1


def _print_finding(name: str, finding: Finding) -> None:
    mark = click.style("ok    ", fg="green") if finding.ok else click.style("FAILED", fg="red")
    click.echo(f"{mark}  {name}: {printable(finding.detail)}")
    if finding.remedy:
        click.echo(f"        {printable(finding.remedy)}")
