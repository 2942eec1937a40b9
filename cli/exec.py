"""``unionfs exec``."""

from __future__ import annotations

from pathlib import Path

import click

from unionfs.cli.store_option import container_option


@click.command("exec", context_settings={"allow_interspersed_args": False})
@container_option
@click.option("-i", "--interactive", is_flag=True, help="Hand standard input on to it.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", "environment", metavar="NAME[=VALUE]", multiple=True, help="Set a variable, or hand ours on.")
@click.option("-w", "--workdir", "working_dir", metavar="PATH", help="Working directory.  [default: the container's]")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Who it runs as.  [default: as the container's program]")
@click.argument("container")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def exec_(
    root: Path | None,
    interactive: bool,
    terminal: bool,
    environment: tuple[str, ...],
    working_dir: str | None,
    user: str | None,
    container: str,
    command: tuple[str, ...],
) -> int:
    """Run one more program in CONTAINER, which must be running.

    Ends with the status of COMMAND; 126 if it cannot be executed, 127 if there is none.

    \b
    Example:
      unionfs exec web cat /etc/hostname
      unionfs exec -it web sh
    """
    from unionfs.containers.execution import execute
    from unionfs.store.location import store_root

    return execute(
        store_root(root),
        container,
        command,
        environment=environment,
        working_dir=working_dir,
        user=user,
        interactive=interactive,
        terminal=terminal,
    )
