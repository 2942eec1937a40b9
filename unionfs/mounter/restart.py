"""Replacing the worker of a running mount by one that runs the code that is installed now (`unionfs restart`)."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import Any

import trio

from unionfs.fuse.direct_session import DirectSession
from unionfs.mounter.control_server import Handler
from unionfs.mounter.held import Handover, Held, resume_command, resume_environment

_PATIENCE = 30.0
"""Seconds for the new code to load."""


class Restart:
    """The operation of the control socket."""

    def __init__(self, session: DirectSession, held: Held) -> None:
        self._session = session
        self._held = held

    @property
    def handlers(self) -> dict[str, Handler]:
        """The request ``restart``, see `unionfs.mounter.restarting`, which sends it."""
        return {"restart": self._restart}

    async def _restart(self, _request: dict[str, Any]) -> object:
        """Nothing of the mount is touched before it is known that the new code can go on with it."""
        await trio.to_thread.run_sync(self._try_new_code)
        self._session.stop()
        return {"worker": os.getpid()}

    def _try_new_code(self) -> None:
        fd = Handover(self._held, 0, None).write()
        command = resume_command(fd, check=True)
        try:
            subprocess.run(
                command,
                env=resume_environment(),
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise OSError(errno.ENOEXEC, f"the code that is installed now cannot go on with the mount: {last}") from None
        except subprocess.TimeoutExpired:
            raise OSError(errno.ETIMEDOUT, f"the code that is installed now did not load in {_PATIENCE:g} s") from None
        finally:
            os.close(fd)
