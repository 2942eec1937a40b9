"""A machine with project quotas: User Mode Linux, a kernel that runs as a program and has the files of this machine as its root.

Many kernels are built without them, that of the machine of this suite too.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("quota_cases.py")

_ROOT = Path(__file__).parents[2]
_MODULES = ("fs/quota/quota_tree", "fs/quota/quota_v2", "fs/fuse/fuse", "drivers/block/loop")
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR) \S+::(\S+)", re.MULTILINE)
LIMIT = 500
"""Seconds; it takes about 25, and 260 where nine others wait for each processor."""

_INIT = """#!/bin/sh
export PATH={path}:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 TMPDIR=/run/tmp CI=true
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log; mkdir /run/tmp
mount -t devtmpfs devtmpfs /dev; mkdir -p /dev/shm
for module in {modules}; do busybox insmod $module.ko; done
cd {root} && {python} -m pytest -p no:cacheprovider --color=no --basetemp /run/cases -q -rA {cases} </dev/null 2>&1
busybox poweroff -f
"""


class QuotaMachine:
    """What came of running `CASES` there."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("linux.uml")
        if program is None:
            pytest.fail("no linux.uml: apt-get install user-mode-linux")
        init = directory / "init"
        (modules,) = (Path(program).parents[1] / "lib/uml/modules").iterdir()
        names = shlex.join(str(modules / "kernel" / name) for name in _MODULES)
        python = Path(sys.executable)
        init.write_text(
            _INIT.format(path=python.parent, modules=names, root=_ROOT, python=python, cases=CASES.relative_to(_ROOT))
        )
        init.chmod(0o755)
        self.output = _boot([program, "mem=600M", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}"], directory)
        self.outcomes = {name: outcome for outcome, name in _OUTCOME.findall(self.output)}


def _whole_xstate(directory: Path) -> Path:
    library = directory / "whole_xstate.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, Path(__file__).with_name("whole_xstate.c")], check=True)
    return library


def _boot(command: list[str], directory: Path) -> str:
    consoles = ["con0=fd:0,fd:1", "con=null", "quiet"]
    environment = {**os.environ, "HOME": str(directory), "TMPDIR": str(directory), "LD_PRELOAD": str(_whole_xstate(directory))}
    with subprocess.Popen(
        [*command, *consoles],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # It consists of several processes, which end together only if it shuts down.
        start_new_session=True,
    ) as machine:
        try:
            output, _ = machine.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired as slow:
            pytest.fail(f"the machine did not come to an end: {(slow.stdout or b'').decode(errors='replace')}")
        finally:
            if machine.returncode is None:
                os.killpg(machine.pid, signal.SIGKILL)
    return output.decode(errors="replace").replace("\r", "")
