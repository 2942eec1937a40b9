"""Runs a command as `tests.rootless.user`, who also has subordinate ids.

``python -m tests.dropin.rootless_user SCRATCH COMMAND…``, started as root."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.rootless.user import HOME, USER, bind, prepare

SUBORDINATE_IDS = "nobody:100000:65536\n"

if __name__ == "__main__":
    here = Path.cwd()
    prepare(Path(sys.argv[1]))
    os.umask(0o022)
    for name in ("subuid", "subgid"):
        ids = HOME.with_name(name)
        ids.write_text(SUBORDINATE_IDS)
        bind(ids, Path("/etc") / name)
    os.chdir(here)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    places = {"HOME": "", "TMPDIR": "tmp", "XDG_RUNTIME_DIR": "xdg", "UNIONFS_RUNTIME_DIR": "run", "UNIONFS_LOG_DIR": "log.d"}
    environment = {**os.environ, **{variable: str(HOME / name) for variable, name in places.items()}}
    for variable in ("TMPDIR", "XDG_RUNTIME_DIR"):
        Path(environment[variable]).mkdir(0o700, exist_ok=True)
    os.execvpe(sys.argv[2], sys.argv[2:], environment)  # noqa: S606 - no shell is wanted
