"""``unionfs run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unionfs.cli.store_option import container_option
from unionfs.mounter.errors import MounterError

_USAGE_STATUS = 125  # docker's, for all that fails before the container's own program does
_NO_INTERSPERSED = {"allow_interspersed_args": False, "ignore_unknown_options": False}


class RunCommand(click.Command):
    """Ends with 125 where the command line is wrong: 2 might as well be the container's own status."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As `click.Command.make_context`."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            words = " ".join(error.format_message().split()).rstrip(".")
            click.echo(f"unionfs: {words}; unionfs run --help tells how", err=True)
            raise click.exceptions.Exit(_USAGE_STATUS) from None


@click.command(cls=RunCommand, context_settings=_NO_INTERSPERSED)
@container_option
@click.option("--rm", "removes", is_flag=True, help="Remove the container when it has ended.")
@click.option("--name", help="Name of the container.  [default: a made-up one]")
@click.option("-i", "--interactive", is_flag=True, help="Hand standard input on to it.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it in the background and print its ID.")
@click.option("-e", "--env", "environment", metavar="NAME[=VALUE]", multiple=True, help="Set a variable, or hand ours on.")
@click.option(
    "--env-file",
    "environment_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Set the variables in a file, one a line.",
)
@click.option("-w", "--workdir", "working_dir", metavar="PATH", help="Working directory in the container.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Who its program runs as: names of the image, or numbers.")
@click.option("--entrypoint", metavar="PROGRAM", help="Run this instead of the image's entrypoint.")
@click.option("--hostname", help="Its host name.  [default: the host's with --network host, else its ID]")
@click.option("--network", type=click.Choice(["host", "none"]), default="host", show_default=True, help="Which network it sees.")
@click.option("--read-only", is_flag=True, help="Its root filesystem cannot be changed.")
@click.option("--size", metavar="SIZE", help="Most that its changes may take, such as 10G.  [default: no limit]")
@click.option(
    "-v",
    "--volume",
    "short_mounts",
    metavar="[SOURCE:]TARGET[:OPTIONS]",
    multiple=True,
    help="Mount a host path (absolute) or a volume; without SOURCE a new anonymous volume.",
)
@click.option("--mount", "long_mounts", metavar="type=…,source=…,target=…", multiple=True, help="The same, spelled out.")
@click.option("--tmpfs", "tmpfs_mounts", metavar="TARGET[:OPTIONS]", multiple=True, help="Mount memory.")
@click.option("--volumes-from", metavar="CONTAINER[:ro]", multiple=True, help="Mount all that another container has mounted.")
@click.option("--volume-driver", metavar="DRIVER", help="Driver of volumes that -v makes.  [default: local]")
@click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="A note on the container.")
@click.option("--stop-signal", metavar="SIGNAL", help="What `unionfs stop` sends.  [default: the image's, else SIGTERM]")
@click.option("--runtime", metavar="PROGRAM", help="runc or crun, by name or path.  [default: runc, else crun]")
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    root: Path | None,
    removes: bool,
    name: str | None,
    interactive: bool,
    terminal: bool,
    detach: bool,
    environment: tuple[str, ...],
    environment_files: tuple[Path, ...],
    working_dir: str | None,
    user: str | None,
    entrypoint: str | None,
    hostname: str | None,
    network: str,
    read_only: bool,
    size: str | None,
    short_mounts: tuple[str, ...],
    long_mounts: tuple[str, ...],
    tmpfs_mounts: tuple[str, ...],
    volumes_from: tuple[str, ...],
    volume_driver: str | None,
    labels: tuple[str, ...],
    stop_signal: str | None,
    runtime: str | None,
    image: str,
    command: tuple[str, ...],
) -> int:
    """Run a program in a new container of IMAGE.

    Ends with the status of COMMAND (by default the image's own); 125 if the container cannot be made, 126 if COMMAND cannot be
    executed, 127 if there is none.  A container in the foreground ends when this command is killed.

    \b
    Example:
      unionfs run --rm debian:12 cat /etc/os-release
      unionfs run --rm -it debian:12 bash
      unionfs run -d --name web -e PORT=80 -v data:/data site/web:1.0
    """
    from unionfs.containers.lifecycle import run_attached, run_detached
    from unionfs.containers.mount_specs.long import parse_long
    from unionfs.containers.mount_specs.short import parse_short
    from unionfs.containers.mount_specs.tmpfs import parse_tmpfs
    from unionfs.containers.options import RunOptions, parse_environment_file, parse_labels, parse_size
    from unionfs.containers.runtime import FAILED, RuntimeFailedError
    from unionfs.store.location import store_root

    try:
        from_files = [word for file in environment_files for word in parse_environment_file(file.read_text())]
        options = RunOptions(
            image=image,
            command=command,
            name=name,
            entrypoint=entrypoint,
            environment=(*from_files, *environment),
            working_dir=working_dir,
            user=user,
            hostname=hostname,
            network="none" if network == "none" else "host",
            labels=parse_labels(labels),
            read_only=read_only,
            removes=removes,
            detached=detach,
            interactive=interactive,
            terminal=terminal,
            size=parse_size(size) if size is not None else None,
            stop_signal=stop_signal,
            runtime=runtime,
            mounts=(
                *(parse_short(text, volume_driver) for text in short_mounts),
                *map(parse_long, long_mounts),
                *map(parse_tmpfs, tmpfs_mounts),
            ),
            volumes_from=volumes_from,
        )
        if not detach:
            return run_attached(store_root(root), options)
        click.echo(run_detached(store_root(root), options))
    except RuntimeFailedError as error:
        click.echo(f"unionfs: {error}", err=True)
        return error.exit_code
    except MounterError as error:
        click.echo(f"unionfs: {error}", err=True)
        return FAILED
    return 0
