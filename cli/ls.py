"""``unionfs ls``."""

from __future__ import annotations

import click

from unionfs.cli.output import print_json, print_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List the mounted unions.

    The state is "mounted", "detached" (unmounted lazily, still in use), "elsewhere" (in another mount namespace), or "dead": the
    daemon was killed, or nobody could serve it any more (--json has the reason as "failure"); then the last column tells how to
    clean up.  "restarts" counts the processes that took over from one that had died or was replaced (unionfs restart).

    \b
    Example:
      unionfs ls
      unionfs ls --json | jq -r '.[].mountpoint'
    """
    from unionfs.mounter.registry import registered_mounts

    mounts = registered_mounts()
    if as_json:
        print_json([{"state": mount.state.value, "remedy": mount.remedy, **mount.record.shown()} for mount in mounts])
        return
    rows = [
        (
            mount.record.mountpoint,
            mount.state.value,
            mount.record.pid,
            mount.record.restarts,
            mount.record.transport,
            len(mount.record.lowers),
            mount.record.upper or "-",
            mount.remedy,
        )
        for mount in mounts
    ]
    print_table(("merged", "state", "pid", "restarts", "transport", "lowers", "upper", "to clean up"), rows)
