"""Printing: JSON for programs, tables for people (drawn by rich on a terminal, aligned text in a pipe)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from unionfs.mounter.errors import printable


def print_json(value: object) -> None:
    """``value`` as indented JSON; bytes that are not UTF-8 in paths stand as lone surrogates (``\\udcNN``)."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """``rows`` under the headings ``columns``."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_aligned([[column.upper() for column in columns], *cells])


def print_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    _print_aligned([[f"{name}:", "" if value is None else printable(str(value))] for name, value in pairs])


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        # Text, not str: a path may hold square brackets, which rich would take for markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _print_aligned(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
