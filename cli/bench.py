"""``unionfs bench``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unionfs.cli.output import print_table
from unionfs.mounter.errors import MounterError

if TYPE_CHECKING:
    from unionfs.bench.report import Report
    from unionfs.bench.runner import Plan, Progress

_QUICK_SCALE = 0.05
_ROUNDS = 5
_IDLE, _QUICK_IDLE = 5.0, 1.0


def _names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[str] | None:
    """``a,b`` as a list."""
    return None if value is None else [name for name in value.split(",") if name]


def _new_file(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """A file that can be written: it would be a pity to find out after half an hour that it cannot."""
    if value is not None and not os.access(value if value.exists() else value.absolute().parent, os.W_OK):
        raise click.BadParameter(f"{value} cannot be written.")
    return value


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), help="How often each is measured.  [default: 5, with --quick 1]")
@click.option("--only", metavar="NAME,…", callback=_names, help="These workloads only; * and ? match as in file names.")
@click.option("--systems", metavar="NAME,…", callback=_names, help="These systems only.")
@click.option("--quick", is_flag=True, help="A twentieth of all sizes, one round: to see that it works.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="Measure on the filesystem of DIRECTORY.  [default: a tmpfs of its own]",
)
@click.option(
    "--limit", type=click.FloatRange(min=1), default=300.0, help="Seconds that one measurement may take.  [default: 300]"
)
@click.option("--json", "json_file", type=_FILE, callback=_new_file, help="Write all measurements to this file.")
@click.option("--svg", "svg_file", type=_FILE, callback=_new_file, help="Draw the ratios into this file.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option("--list", "list_only", is_flag=True, help="List workloads and systems.")
def bench(
    rounds: int | None,
    only: list[str] | None,
    systems: list[str] | None,
    quick: bool,
    directory: Path | None,
    limit: float,
    json_file: Path | None,
    svg_file: Path | None,
    markdown: bool,
    list_only: bool,
) -> int:
    """Compare unionfs with other unions: the same work on each.

    Each measurement is on a fresh mount; the systems take turns.  The tables show medians, and ratios to the kernel's OverlayFS
    (docs/benchmark.md tells how to read them).  Needs root, and 6 GiB of free memory or a DIRECTORY with as much room.

    \b
    Example:
      unionfs bench --json results.json --svg results.svg
      unionfs bench --quick --only 'walk-*,create' --systems kernel,direct
    """
    if list_only:
        _print_list()
        return 0
    plan = _plan(only, systems, quick, rounds, limit)
    if os.geteuid() != 0:
        raise MounterError(
            "bench", "the kernel's OverlayFS, passthrough and mounting a tmpfs need root", "run: sudo unionfs bench"
        )
    from unionfs.bench.errors import BenchError, EndedError
    from unionfs.bench.machine import environment

    try:
        machine = environment()
        report, filesystem = _measure(plan, directory, _QUICK_SCALE if quick else 1.0)
    except BenchError as error:
        raise MounterError("bench", str(error)) from error
    except EndedError as ended:
        return 128 + ended.signal_number
    options = {"rounds": plan.rounds, "scale": report.scale, "limit": limit, "filesystem": filesystem}
    _write(report, machine, options, json_file, svg_file)
    _print(report, machine, markdown)
    return 0


def _print_list() -> None:
    from unionfs.bench.runner import FIGURES
    from unionfs.bench.systems import SYSTEMS
    from unionfs.bench.workloads import ALL

    rows = [(workload.name, workload.group, workload.title) for workload in ALL]
    rows += [(name, "figures", what) for name, what in FIGURES.items()]
    print_table(["workload", "group", "what is done"], rows)
    click.echo()
    print_table(["system", "what it is"], [(system.name, system.title) for system in SYSTEMS])


def _plan(only: list[str] | None, systems: list[str] | None, quick: bool, rounds: int | None, limit: float) -> Plan:
    from unionfs.bench.runner import Plan
    from unionfs.bench.selection import UnknownNameError, select_systems, select_workloads

    try:
        workloads, figures = select_workloads(only)
        chosen = select_systems(systems)
    except UnknownNameError as error:
        raise click.UsageError(str(error)) from error
    return Plan(workloads, chosen, rounds or (1 if quick else _ROUNDS), limit, figures, _QUICK_IDLE if quick else _IDLE)


def _measure(plan: Plan, directory: Path | None, scale: float) -> tuple[Report, str]:
    """The report, and what filesystem it is about."""
    from unionfs.bench.report import build_report
    from unionfs.bench.runner import run_plan
    from unionfs.bench.workspace import touch_memory, workspace

    with workspace(directory, scale) as place, _progress(plan) as progress:
        touch_memory(scale)
        results = run_plan(plan, place, progress)
    return build_report(plan.workloads, plan.systems, results, scale), place.filesystem


@contextmanager
def _progress(plan: Plan) -> Iterator[Progress]:
    """Shows on stderr what is being measured: a bar on a terminal, otherwise a line for each workload of each round."""
    if not sys.stderr.isatty():
        said = set()

        def tell(round_number: int, workload: str, _system: str) -> None:
            if (round_number, workload) not in said:
                said.add((round_number, workload))
                click.echo(f"round {round_number} of {plan.rounds}: {workload}", err=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    # No thread that refreshes: it would use CPU time, and a measurement is a fork of this process.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=plan.steps())

        def show(round_number: int, workload: str, system: str) -> None:
            bar.update(task, advance=1, description=f"round {round_number}/{plan.rounds}: {workload} on {system}", refresh=True)

        yield show


def _write(
    report: Report, machine: dict[str, Any], options: dict[str, Any], json_file: Path | None, svg_file: Path | None
) -> None:
    from unionfs.bench.chart import svg
    from unionfs.bench.machine import in_one_line

    if json_file:
        json_file.write_text(json.dumps(report.as_json(machine, options), indent=2) + "\n")
    if svg_file:
        svg_file.write_text(svg(report, in_one_line(machine)))


def _print(report: Report, machine: dict[str, Any], markdown: bool) -> None:
    from unionfs.bench.machine import in_one_line
    from unionfs.bench.tables import tables

    click.echo(in_one_line(machine))
    for table in tables(report):
        click.echo()
        if markdown:
            click.echo(table.markdown(), nl=False)
            continue
        click.echo(f"{table.title}\n")
        if table.rows:
            print_table(table.columns, table.rows)
        for note in table.notes:
            click.echo(note)
