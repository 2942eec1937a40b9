"""``--root``, which all commands on the store have, and how they come to the rights that they need on it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from unionfs.rootless import is_arriving

_Command = TypeVar("_Command", bound=Callable[..., Any])


def root_option(command: _Command) -> _Command:
    """Give ``command`` the option ``--root`` alone; its parameter is ``root: Path | None``."""
    option = click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where the store is (default: UNIONFS_ROOT, else /var/lib/unionfs for root, ~/.local/share/unionfs for others).",
    )
    return option(command)


def store_option(command: _Command) -> _Command:
    """As `root_option`, and the command of a user is executed again as root of his user namespace, once its command line has been
    found to be right: there the files of the store have their owners (`unionfs.rootless`).

    Where he may have none it works as the user that it is: without owners and rights, of which importing tells.
    """
    return root_option(_as_root(command, is_needed=False))


def container_option(command: _Command) -> _Command:
    """As `store_option`, but nothing is done without such a namespace: containers, and what is mounted for them, are in it."""
    return root_option(_as_root(command, is_needed=True))


def _as_root(command: _Command, *, is_needed: bool) -> _Command:
    @functools.wraps(command)
    def as_root(*arguments: Any, **parameters: Any) -> Any:
        become_root(is_needed=is_needed)
        return command(*arguments, **parameters)

    return as_root  # type: ignore[return-value]


def become_root(*, is_needed: bool) -> None:
    """Come back as root: of the machine, or of the user's namespace, in which the process then begins anew.

    Raises:
        MounterError: there can be no such namespace, and it is needed; the error names the remedy.
    """
    if os.geteuid() == 0 and not is_arriving():
        return
    from unionfs.rootless.entry import ensure_root
    from unionfs.rootless.id_mapping import NoNamespaceError
    from unionfs.store.location import store_root

    # Said here: root has other places of his own, and his home is not that of the user.
    home = os.path.expanduser("~")
    try:
        ensure_root({"UNIONFS_ROOT": str(store_root()), **({"HOME": home} if os.path.isabs(home) else {})})
    except NoNamespaceError:
        if is_needed:
            raise
