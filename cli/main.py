"""The ``unionfs`` program."""

from __future__ import annotations

import click

from unionfs.cli.program import ProgramGroup

_COMMANDS = {
    "mount": "unionfs.cli.mount:mount",
    "umount": "unionfs.cli.umount:umount",
    "ls": "unionfs.cli.ls:ls",
    "status": "unionfs.cli.status:status",
    "metrics": "unionfs.cli.metrics:metrics",
    "explain": "unionfs.cli.explain:explain",
    "layers": "unionfs.cli.layers:layers",
    "refresh": "unionfs.cli.refresh:refresh",
    "restart": "unionfs.cli.restart:restart",
    "snapshot": "unionfs.cli.snapshot:snapshot",
    "check": "unionfs.cli.check:check",
    "image": "unionfs.cli.image:image",
    "layer": "unionfs.cli.layer:layer",
    "volume": "unionfs.cli.volume:volume",
    "plugin": "unionfs.cli.plugin:plugin",
    "run": "unionfs.cli.run:run",
    "ps": "unionfs.cli.ps:ps",
    "exec": "unionfs.cli.exec:exec_",
    "logs": "unionfs.cli.logs:logs",
    "stop": "unionfs.cli.stop:stop",
    "kill": "unionfs.cli.kill:kill",
    "rm": "unionfs.cli.rm:rm",
    "diff": "unionfs.cli.diff:diff",
    "commit": "unionfs.cli.commit:commit",
    "export": "unionfs.cli.export:export",
    "gc": "unionfs.cli.gc:gc",
    "doctor": "unionfs.cli.doctor:doctor",
    "bench": "unionfs.cli.bench:bench",
    "completion": "unionfs.cli.completion:completion",
}


@click.group(
    cls=ProgramGroup, lazy_commands=_COMMANDS, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="unionfs", message="%(prog)s %(version)s")
def unionfs() -> None:
    """Stack directories into one: read-only layers under a writable one.

    \b
    Example:
      unionfs mount -l /srv/base -u /srv/changes /mnt
      unionfs explain /mnt/etc/hostname
      unionfs umount /mnt
    """


def main() -> None:
    """Entry point of the console script."""
    unionfs(prog_name="unionfs")


if __name__ == "__main__":
    main()
