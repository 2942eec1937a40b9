"""How every program here ends: an error is one line on stderr naming the thing and the remedy, the exit status 0, 1 or 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import click

from unionfs.mounter.errors import MounterError, from_os_error, printable


class _OneLineErrors(click.Command):
    """A command whose errors go to stderr as ``program: thing: problem; remedy``."""

    exit_statuses: ClassVar[dict[int, int]] = {1: 1, 2: 2}
    """What to end with for a failure (1) and for wrong usage (2)."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:
        """As `click.Command.main`; always ends the process.

        By SystemExit, or at once where the arguments are those of the process, so that there is nobody to catch that.
        """
        program = prog_name or str(self.name)
        extra["standalone_mode"] = False
        try:
            status = super().main(args, program, **extra)
        except (click.ClickException, MounterError, OSError, click.Abort) as error:
            status = self._fail(program, error)
        # A command that has a status of its own to give returns it; click returns that of ctx.exit() (--help) the same way.
        status = status if isinstance(status, int) else 0
        if args is None:
            _end(status)
        sys.exit(status)

    def _fail(self, program: str, error: Exception) -> int:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has enough.  Python would complain again when it flushes stdout at exit.
            sys.stdout = None  # type: ignore[assignment]
            return 1
        if isinstance(error, click.Abort):
            return 130  # ctrl-C, as shells count it
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # since click 8.2
            error.show()
            return 2
        line, status = _explained(program, error)
        click.echo(f"{program}: {line}", err=True)
        return self.exit_statuses[status]


def _explained(program: str, error: Exception) -> tuple[str, int]:
    if isinstance(error, MounterError):
        return str(error), error.exit_status
    if isinstance(error, OSError):
        return str(from_os_error(error)), 1
    assert isinstance(error, click.ClickException)
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else program
    # click's messages may go over several lines (a list of possible choices).
    words = " ".join(error.format_message().split()).rstrip(".")
    return f"{printable(words)}; {command} --help tells how", error.exit_code


def _end(status: int) -> NoReturn:
    """End the process without taking the interpreter apart: nobody needs that, and whoever ran the program waits for it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            status = status or 1
    os._exit(status)


class Program(_OneLineErrors):
    """A program that is one command."""


class ProgramGroup(_OneLineErrors, click.Group):
    """A program with subcommands, each loaded from its module when it is used: start-up is what a user waits for."""

    def __init__(self, *args: Any, lazy_commands: dict[str, str], **extra: Any) -> None:
        """``lazy_commands``: name of the command -> ``module:attribute``."""
        super().__init__(*args, **extra)
        self._lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, in the order of the table."""
        return list(self._lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load the command."""
        import importlib

        target = self._lazy_commands.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command
