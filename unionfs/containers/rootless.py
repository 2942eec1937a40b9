"""What is different in a container where root is root of a user namespace only.

`runc spec --rootless` shows the differences (runc, libcontainer/specconv/example.go, ToRootless): no cgroups, which belong to
root of the machine; no sysfs of a network that is not ours; no group of terminals that is not mapped.
"""

from __future__ import annotations

from typing import Any

from unionfs.containers.options import Network
from unionfs.containers.users import User
from unionfs.linux.capabilities import in_initial_user_namespace
from unionfs.linux.user_namespaces import contains, mapped_gids, mapped_uids, may_set_groups
from unionfs.store.errors import StoreError

_ADD = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
_REMEDY = f"get ranges in /etc/subuid and /etc/subgid, as root: {_ADD}"


def fit_to_user_namespace(config: dict[str, Any], network: Network) -> dict[str, Any]:
    """The runtime's ``config`` (`unionfs.containers.bundle`), changed as the user namespace of this process wants it; as it is
    where that is the machine's own.

    Raises:
        OSError: /proc is not mounted.
    """
    if in_initial_user_namespace():
        return config
    # Without a path in the config runc and crun go on where they may make no cgroup.
    linux = {key: value for key, value in config["linux"].items() if key not in ("cgroupsPath", "resources")}
    return {**config, "linux": linux, "mounts": [_fit_mount(mount, network) for mount in config["mounts"]]}


def _fit_mount(mount: dict[str, Any], network: Network) -> dict[str, Any]:
    if mount["type"] == "devpts":
        gids = mapped_gids()
        return {**mount, "options": [word for word in mount["options"] if _is_mapped(word, gids)]}
    if mount["type"] == "sysfs" and network == "host":
        # fs/sysfs/mount.c: a new one is for whoever has rights in the network namespace.
        return {**mount, "type": "none", "source": "/sys", "options": ["rbind", *mount["options"]]}
    return mount


def _is_mapped(word: str, gids: list[Any]) -> bool:
    name, _, value = word.partition("=")
    return name != "gid" or contains(gids, int(value))


def fit_user(user: User) -> User:
    """``user`` as the user namespace of this process lets a process be: without its further groups where nobody may have any.

    Raises:
        StoreError: there is no such user or group in the namespace.
        OSError: /proc is not mounted.
    """
    if not contains(mapped_uids(), user.uid) or not contains(mapped_gids(), user.gid):
        raise StoreError(f"user {user.uid}:{user.gid}", "not among the ids that you may use", _REMEDY)
    return user if may_set_groups() else user._replace(groups=())
