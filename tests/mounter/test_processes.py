"""Which process is which."""

from __future__ import annotations

import os
import subprocess
import sys

from unionfs.mounter.processes import is_running, start_time, wait_for_end

_NO_PROCESS = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h: no process id is as high


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_process_is_told_by_its_start_time() -> None:
    started = start_time(os.getpid())
    assert started is not None
    assert is_running(os.getpid(), started)
    assert not is_running(os.getpid(), started - 1)


def test_there_is_no_start_time_without_a_process() -> None:
    assert start_time(_NO_PROCESS) is None


def test_a_zombie_does_not_run() -> None:
    with _start() as process:
        started = start_time(process.pid)
        assert started is not None
        process.kill()
        assert wait_for_end(process.pid, started, timeout=10)
        assert not is_running(process.pid, started)  # nobody has waited for it yet


def test_waiting_ends_after_the_timeout() -> None:
    with _start() as process:
        started = start_time(process.pid)
        assert started is not None
        assert not wait_for_end(process.pid, started, timeout=0)
        process.kill()


def test_nobody_waits_for_a_process_that_is_another_one_by_now() -> None:
    assert wait_for_end(os.getpid(), 0, timeout=0)
    assert wait_for_end(_NO_PROCESS, 0, timeout=0)
