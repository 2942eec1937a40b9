"""The process of a container: the object ``process`` of the runtime's config (OCI runtime specification, config.md), after
docker's defaults."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from typing import Any

from unionfs.containers.users import User
from unionfs.store.errors import wrong_usage
from unionfs.store.image_config import ImageConfig

# moby, oci/caps/defaults.go
_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPEN_FILES = 1 << 20
"""What docker asks for.  A runtime that asks for more than its own hard limit fails with EPERM without CAP_SYS_RESOURCE."""


def process_config(
    arguments: Sequence[str], *, environment: Sequence[str], working_dir: str, user: User, terminal: bool
) -> dict[str, Any]:
    """The object; ``environment`` as `merged_environment` makes it.  A process that is not root gets no capabilities, but may
    have them back by a program with set-id bits (they are in the bounding set), as in docker."""
    held = list(_CAPABILITIES) if user.uid == 0 else []
    return {
        "terminal": terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": list(arguments),
        "env": list(environment),
        "cwd": working_dir,
        "capabilities": {"bounding": list(_CAPABILITIES), "effective": held, "permitted": held},
        "rlimits": [_open_files()],
        "noNewPrivileges": False,
    }


def _open_files() -> dict[str, Any]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    return {"type": "RLIMIT_NOFILE", "hard": most, "soft": most}


def arguments_of(image: ImageConfig, entrypoint: str | None, command: Sequence[str], name: str) -> list[str]:
    """What to execute: entrypoint and command, the image's where the user gave none.  An entrypoint of the user's own does away
    with the image's command too, as in docker; an empty one is none.

    ``name``: what an error calls the image.

    Raises:
        StoreError: nothing is left to execute (exit status 2).
    """
    if entrypoint is None:
        arguments = [*image.entrypoint, *(command or image.cmd)]
    else:
        arguments = [*((entrypoint,) if entrypoint else ()), *command]
    if not arguments:
        raise wrong_usage(name, "the image has no command", "give one after its name")
    return arguments


def merged_environment(
    image: Sequence[str], given: Sequence[str], *, ours: Mapping[str, str], defaults: Mapping[str, str] | None = None
) -> list[str]:
    """``NAME=VALUE`` of the process: what the user gave over what the image has over ``defaults``.  A ``NAME`` alone takes its
    value from ``ours``, the environment of the command, and is left out where that has none.

    Raises:
        StoreError: a word is no variable (exit status 2).
    """
    merged = {**(defaults or {}), **_pairs(image, {}), **_pairs(given, ours)}
    return [f"{name}={value}" for name, value in merged.items()]


def default_environment(*, home: str, hostname: str, terminal: bool) -> dict[str, str]:
    """What docker gives to a process that has nothing else."""
    return {"PATH": _PATH, "HOSTNAME": hostname, **({"TERM": "xterm"} if terminal else {}), "HOME": home}


def _pairs(words: Sequence[str], ours: Mapping[str, str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not name:
            raise wrong_usage(word, "not a variable", "write NAME=VALUE")
        if separator:
            pairs[name] = value
        elif name in ours:
            pairs[name] = ours[name]
    return pairs
