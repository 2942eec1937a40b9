"""A process that has loaded all of ``unionfs`` and forks for each command that `tests.preloaded` asks it for.

Started with the number of a descriptor: a socket of whole messages (SOCK_SEQPACKET).  A message is a `Request`, as JSON, with the
command's stdin, stdout, stderr and current directory, and a socket that is told the command's process id and then its exit
status.  It ends when nobody has the other end of the first socket any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import pkgutil
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn

MAX_REQUEST = 100_000
"""Bytes; by default a socket takes a message of twice as many."""

_ENV_START, _ENV_END = 47, 48
"""Positions in /proc/PID/stat (proc(5)), of the fields after the name."""

LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class Request(NamedTuple):
    """A command as execve(2) would get it, the umask, and who asks: the command has that process's limits."""

    command: list[str]
    environment: dict[str, str]
    umask: int
    asker: int


class Command(NamedTuple):
    """A command that runs."""

    process: int
    asker: socket.socket


def load_everything() -> None:
    """Import each module of ``unionfs``; of those that are programs nothing runs."""
    import unionfs
    import unionfs.cli  # lies in a folder of its own

    for package in (unionfs, unionfs.cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)


def serve(requests: socket.socket) -> None:
    """Fork for each request until there can be no more."""
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    _end(key.data)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                elif (command := _begin(requests)) is not None:
                    selector.register(os.pidfd_open(command.process), selectors.EVENT_READ, command)
                else:
                    return


def _begin(requests: socket.socket) -> Command | None:
    message, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST, 5)
    if not message:
        return None
    *streams, directory, answers = descriptors
    process = os.fork()
    if not process:
        _become(Request(*json.loads(message)), streams, directory)
    for fd in (*streams, directory):
        os.close(fd)
    asker = socket.socket(fileno=answers)
    _tell(asker, process)
    return Command(process, asker)


def _end(command: Command) -> None:
    _, status = os.waitpid(command.process, 0)
    with command.asker:
        _tell(command.asker, os.waitstatus_to_exitcode(status))


def _tell(asker: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked has stopped waiting
        asker.send(str(number).encode())


def _become(request: Request, streams: list[int], directory: int) -> NoReturn:
    """Run the command in this process, which has been forked for it, as if it were started."""
    try:
        for fd, stream in enumerate(streams):  # under the objects of `sys`, which nobody has used yet
            os.dup2(stream, fd)
        os.fchdir(directory)
        os.closerange(len(streams), max(map(int, os.listdir("/proc/self/fd"))) + 1)
        os.umask(request.umask)
        for limit in LIMITS:
            resource.setrlimit(limit, resource.prlimit(request.asker, limit))
        os.environ.clear()
        _show_in_proc(request.environment)
        os.environ.update(request.environment)
        time.tzset()
        sys.argv = request.command
        sys.orig_argv = [sys.executable, *request.command]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from unionfs.cli.main import main

        main()
    finally:
        sys.excepthook(*sys.exc_info())  # main() does not return
        os._exit(1)


def _show_in_proc(environment: Mapping[str, str]) -> None:
    """Let /proc/PID/environ tell it: that shows where the environment was when the program was started, whatever is there now."""
    shown = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def main() -> None:
    """The program: `python -m tests.preloaded_server DESCRIPTOR`."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for pytest, which may need commands for its teardowns
    load_everything()
    gc.freeze()  # a collection in a command would have to copy all that it shares with the others
    serve(requests)


if __name__ == "__main__":
    main()
