"""A new user namespace with its ids mapped.

The maps of other ids than one's own must come from outside of the namespace and from programs with set-id bits, newuidmap and
newgidmap (user_namespaces(7); newuidmap(1)).  So a child stays outside and runs them, when this process has gone inside.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from unionfs.linux.user_namespaces import IdRange, enter_new_user_namespace, map_only_this_user, receive_mounts
from unionfs.mounter.errors import MounterError
from unionfs.rootless.subordinate_ids import id_maps

_THING = "user namespace"
_DONE = b"done"
_SYSCTLS = Path("/proc/sys")


class NoNamespaceError(MounterError):
    """This machine lets the user have no user namespace, or not the rights in it that it is for."""


def enter_mapped_user_namespace() -> None:
    """Become root of a new user namespace, with a mount namespace of its own.

    Raises:
        NoNamespaceError: it is forbidden; the error names the remedy, and the process is as before.
        MounterError: a program is missing, or refuses the maps.
    """
    uid, gid = os.geteuid(), os.getegid()
    maps = id_maps(uid, gid)
    commands = [] if maps is None else [_program("newuidmap", maps[0]), _program("newgidmap", maps[1])]
    _check_that_one_is_allowed()
    if maps is None:
        enter_new_user_namespace()
        map_only_this_user(uid, gid)
    else:
        _enter_mapped_from_outside(commands)
    receive_mounts()


def _program(name: str, maps: Sequence[IdRange]) -> list[str]:
    path = shutil.which(name)
    if path is None:
        raise MounterError(name, "no such program on PATH, so your ids of /etc/subuid cannot be used", "apt-get install uidmap")
    return [path, str(os.getpid()), *(str(number) for each in maps for number in each)]


def _check_that_one_is_allowed() -> None:
    """Try it in a child: there is no way back, and some machines (AppArmor on Ubuntu) give the namespace, but no rights in it."""
    child = os.fork()
    if child == 0:
        number = errno.EIO
        try:
            enter_new_user_namespace()
            receive_mounts()
            number = 0
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os._exit(number)
    _, status = os.waitpid(child, 0)
    number = os.waitstatus_to_exitcode(status)
    if number:
        problem = f"cannot be made: {os.strerror(number)}" if number > 0 else f"was refused by signal {-number}"
        raise NoNamespaceError(_THING, problem, _forbidden(number))


def _forbidden(number: int) -> str:
    """The remedy, by what this machine has set."""
    if number in (errno.EINVAL, errno.ENOSYS):
        return "use a kernel with user namespaces (CONFIG_USER_NS), or run as root"
    if number == errno.ENOSPC:
        return f"allow more, as root: sysctl user.max_user_namespaces=15000 (is {_sysctl('user/max_user_namespaces')})"
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "allow them to users, as root: sysctl kernel.unprivileged_userns_clone=1"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "allow them to users, as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    return "leave the chroot or the container that forbids it (its seccomp filter, for one), or run as root"


def _sysctl(name: str) -> str | None:
    try:
        return (_SYSCTLS / name).read_text().strip()
    except OSError:  # this kernel does not have it
        return None


def _enter_mapped_from_outside(commands: Sequence[Sequence[str]]) -> None:
    told, tell = os.pipe()
    answer, answering = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(tell)
        _map_when_told(commands, told, answering)
    os.close(told)
    os.close(answering)
    try:
        try:
            enter_new_user_namespace()
            os.write(tell, b".")
        finally:
            os.close(tell)
        with open(answer, "rb") as pipe:
            said = pipe.read()
    finally:
        os.waitpid(helper, 0)
    if said != _DONE:
        problem = said.decode(errors="replace") or "ended without a word"
        remedy = "see that newuidmap and newgidmap are set-user-id root, and look at /etc/subuid and /etc/subgid"
        raise MounterError(_THING, problem, remedy)


def _map_when_told(commands: Sequence[Sequence[str]], told: int, answer: int) -> NoReturn:
    """The helper's whole life: below are the frames of the command, which are not its to run."""
    try:
        if os.read(told, 1):  # nothing: there is no namespace
            os.write(answer, _run(commands))
    finally:
        os._exit(0)


def _run(commands: Sequence[Sequence[str]]) -> bytes:
    for command in commands:
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            return f"{command[0]}: {error.strerror}".encode()
        if done.returncode:
            return b" ".join(done.stderr.split()) or f"{command[0]} ended with status {done.returncode}".encode()
    return _DONE
