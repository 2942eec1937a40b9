"""``unionfs check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unionfs.cli.output import print_json
from unionfs.mounter.errors import printable

if TYPE_CHECKING:
    from unionfs.check import Directories, Outcome

_DIRECTORY = click.Path(path_type=Path)


@click.command()
@click.option("-l", "--lower", "lowers", metavar="DIR", type=_DIRECTORY, multiple=True, help="Lower layer; the first is on top.")
@click.option("--data", metavar="DIR", type=_DIRECTORY, multiple=True, help="Data-only layer.")
@click.option("-w", "--work", metavar="DIR", type=_DIRECTORY, help="Work directory (default: .NAME.work beside the upper).")
@click.option("--userxattr/--no-userxattr", default=None, help="Whether the attributes are in user.overlay. (as for mount).")
@click.option("--repair", is_flag=True, help="Put right what can be put right without a guess.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("uppers", metavar="UPPER...", type=_DIRECTORY, nargs=-1, required=True)
def check(
    lowers: tuple[Path, ...],
    data: tuple[Path, ...],
    work: Path | None,
    userxattr: bool | None,
    repair: bool,
    as_json: bool,
    uppers: tuple[Path, ...],
) -> int:
    """Look for damage in the upper of a union that is not mounted.

    Without the lowers (in the order of the mount) only the upper itself is looked at.  Nothing is changed without --repair.  The
    exit status is 0 if nothing is wrong, or nothing is any more, and 1 if something is; notes do not count.

    \b
    Example:
      unionfs check -l /srv/base /srv/changes
      unionfs check -l /srv/patches -l /srv/base --repair /srv/changes
    """
    from unionfs.check import Directories
    from unionfs.mounter.request import may_write_trusted_xattrs

    if work is not None and len(uppers) > 1:
        raise click.UsageError("--work is for one UPPER")
    if userxattr is None:
        userxattr = not may_write_trusted_xattrs()
    checked = [(upper, _check(Directories(upper, work, lowers, userxattr, data), repair)) for upper in uppers]
    if as_json:
        print_json([_as_json(upper, outcomes) for upper, outcomes in checked])
    else:
        for upper, outcomes in checked:
            _print(upper, outcomes)
    return 1 if any(outcome.is_left for _, outcomes in checked for outcome in outcomes) else 0


def _check(given: Directories, repair: bool) -> list[Outcome]:
    from unionfs.check import check
    from unionfs.mounter.checks import check_directory
    from unionfs.mounter.unmounted import unmounted
    from unionfs.overlay.private_xattrs import PrivateXattrs
    from unionfs.overlay.snapshots import Snapshots

    lowers, data = (tuple(check_directory("lower", path) for path in paths) for paths in (given.lowers, given.data))
    with unmounted(given.upper, given.work) as (upper, work):
        if lowers:
            # As a mount finds them: above the lowers that the user names.
            snapshots = Snapshots(upper, PrivateXattrs(given.userxattr)).chain()
            lowers = (*(layer for layer in snapshots if layer not in lowers), *lowers)
        return check(given._replace(upper=upper, work=work, lowers=lowers, data=data), repair)


def _print(upper: Path, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        finding = outcome.finding
        click.echo(f"{finding.severity.value}: {printable(str(finding.path))}: {printable(finding.problem)} [{finding.kind}]")
        if outcome.error is not None:
            click.echo(f"  repair failed: {printable(outcome.error.strerror or str(outcome.error))}")
        elif finding.repair is not None:
            click.echo(f"  {'repaired' if outcome.repaired else '--repair would'}: {printable(finding.repair.what)}")
        if finding.remedy is not None:
            click.echo(f"  {printable(finding.remedy)}")
    left = sum(outcome.is_left for outcome in outcomes)
    repaired = sum(outcome.repaired for outcome in outcomes)
    summary = f"{left} problem{'' if left == 1 else 's'}" if left else "clean"
    click.echo(f"{printable(str(upper))}: {summary}{f', {repaired} repaired' if repaired else ''}")


def _as_json(upper: Path, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "upper": str(upper),
        "clean": not any(outcome.is_left for outcome in outcomes),
        "findings": [
            {
                "kind": outcome.finding.kind,
                "severity": outcome.finding.severity.value,
                "path": str(outcome.finding.path),
                "problem": outcome.finding.problem,
                "remedy": outcome.finding.remedy,
                "repair": outcome.finding.repair.what if outcome.finding.repair else None,
                "repaired": outcome.repaired,
                "error": outcome.error.strerror if outcome.error else None,
            }
            for outcome in outcomes
        ],
    }
