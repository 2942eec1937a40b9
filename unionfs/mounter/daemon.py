"""Starting a mount: in a daemon that outlives the command, or in the foreground."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from unionfs.mounter.errors import DaemonError, MounterError, from_os_error
from unionfs.mounter.log import default_log, log_to_file, log_to_stderr
from unionfs.mounter.lookup import resolve_mountpoint
from unionfs.mounter.process_setup import detach_from_terminal, prepare_process
from unionfs.mounter.request import MountRequest

if TYPE_CHECKING:
    from unionfs.mounter.held import Handover

_log = logging.getLogger("unionfs.mounter")

_FAILED = 1


def start_daemon(request: MountRequest, level: int = logging.WARNING) -> int:
    """Mount, with a daemon to serve it.  Returns its process id when the mount is usable.

    Everything happens in the daemon, and it forks before it loads trio: neither an event loop nor a thread survives a fork.

    Raises:
        MounterError: what the daemon said, one line; nothing is mounted then.
    """
    log = Path(os.path.abspath(request.log)) if request.log else default_log(resolve_mountpoint(request.mountpoint))
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiver)
        _become_daemon(request, log, level, _Report(sender))
    os.close(sender)
    with open(receiver, "rb") as pipe:
        report = pipe.read()
    if report == _READY:
        return pid
    os.waitpid(pid, 0)
    if not report:
        raise DaemonError(str(request.mountpoint), "the daemon died before the mount was ready", f"its log is {log}")
    raise _decode_error(report)


def serve_in_foreground(request: MountRequest, ready: Callable[[], None], level: int = logging.WARNING) -> signal.Signals | None:
    """Mount and serve in this process, until unmounted or told to stop by a signal, which is returned then.

    Raises:
        MounterError, OSError: as `unionfs.mounter.server.serve`.
    """
    from unionfs.mounter.server import serve

    log_to_file(request.log, level) if request.log else log_to_stderr(level)
    prepare_process()
    return serve(request, request.log, ready)


def go_on(handover: Handover) -> int:
    """Hold a mount in place of another program, in the same process; the exit status of the program."""
    from unionfs.mounter.server import resume

    held = handover.held
    log_to_file(held.log, held.level) if held.log else log_to_stderr(held.level)
    try:
        stopped_by = resume(handover)
    except MounterError as error:
        _log.error("the mount ended: %s", error)
        return _FAILED
    except Exception:
        _log.exception("the daemon of %s ends on an internal error", held.mountpoint)
        return _FAILED
    return 128 + signal.SIGINT if stopped_by is signal.SIGINT else 0


_READY = b"ready"


class _Report:
    """The daemon's one message to the command that waits for it."""

    def __init__(self, sender: int) -> None:
        self._sender = sender
        self._is_sent = False

    def send(self, message: bytes) -> None:
        """Send it, and let the command go.  Afterwards there is only the log."""
        if self._is_sent:
            _log.error("the mount ended: %s", message.decode(errors="replace"))
            return
        # Noted first: once closed, the descriptor's number may mean some file of a layer.
        self._is_sent = True
        os.write(self._sender, message)
        os.close(self._sender)


def _become_daemon(request: MountRequest, log: Path, level: int, report: _Report) -> NoReturn:
    """The daemon's whole life.  Does not return: below are the frames of the command, which are not ours to run."""
    status = _FAILED
    try:
        os.setsid()
        log_to_file(log, level)
        prepare_process()
        _serve(request, log, report)
        status = 0
    except MounterError as error:
        report.send(_encode_error(error))
    except OSError as error:
        report.send(_encode_error(from_os_error(error)))
    except BaseException as error:
        _log.exception("the daemon of %s ends on an internal error", request.mountpoint)
        report.send(_encode_error(DaemonError(str(request.mountpoint), f"internal error: {error!r}", f"the log {log} has more")))
    finally:
        logging.shutdown()
        os._exit(status)


def _serve(request: MountRequest, log: Path, report: _Report) -> None:
    from unionfs.mounter.server import serve

    def ready() -> None:
        detach_from_terminal()
        report.send(_READY)

    serve(request, log, ready)


def _encode_error(error: MounterError) -> bytes:
    return json.dumps([error.thing, error.problem, error.remedy, error.exit_status]).encode()


def _decode_error(report: bytes) -> MounterError:
    thing, problem, remedy, exit_status = json.loads(report)
    error = MounterError(thing, problem, remedy)
    error.exit_status = exit_status
    return error
