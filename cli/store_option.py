"""``--root``, which all commands on the store have, and how they open it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def store_option(command: _Command) -> _Command:
    """Give ``command`` the option ``--root``; its parameter is ``root: Path | None``."""
    option = click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where the store is (default: UNIONFS_ROOT, else /var/lib/unionfs for root, ~/.local/share/unionfs for others).",
    )
    return option(command)
