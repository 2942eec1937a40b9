"""Being root without root: the user namespace in which the commands on a user's store work.

In it the user is root, and further users and groups stand for his subordinate ids (subuid(5)), so that layers keep their owners
and containers have users; its mount namespace holds what is mounted for containers.  There is one of it for each user (for each
directory where his mounts are registered), shared by all his commands, and no process that merely holds it: it is there as long
as anything is in it, the monitor of a container or the daemon of a mount, and the next command joins it through one of these.
So nothing has to be ended, and no kill leaves mounts that cannot be reached.

Layout, from the bottom up:

``subordinate_ids``  which ids the user may map.
``id_mapping``       a new user namespace, with these.
``member``           the processes that are in the namespace.
``entry``            the whole: joins it or makes it, and executes the command again inside.
"""

from __future__ import annotations

import os

ARRIVING = "UNIONFS_ROOTLESS_LOCK"
"""The environment variable that a command has which was executed again: the descriptor of the lock that it is to give back."""


def is_arriving() -> bool:
    """Whether this process has come into the namespace and nobody has taken note yet."""
    return ARRIVING in os.environ
