"""A mount outlives the processes that serve it."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from unionfs.linux.fork import fork_sharing_files
from unionfs.mounter import supervisor
from unionfs.mounter.supervisor import STOP_SIGNAL, Ended, Status, Supervisor


def in_a_process(check: Callable[[], None]) -> None:
    """Run ``check`` in a process of its own: a supervisor changes the signals of its process, and forks."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def dies() -> Status:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def crashes() -> Status:
    raise ValueError("a bug")


def unmounted() -> Status:
    return Status.UNMOUNTED


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 0.0)
    monkeypatch.setattr(supervisor, "_BREATHER", 0.0)


def test_what_a_killed_child_has_opened_stays_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    receiver, sender = os.pipe()

    def check() -> None:
        pid = fork_sharing_files()
        if pid == 0:
            os.write(sender, b"%d" % os.open(tmp_path / "file", os.O_RDONLY))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        assert os.read(int(os.read(receiver, 100)), 100) == b"kept"

    in_a_process(check)
    os.close(receiver)
    os.close(sender)


def test_worker_that_ends_by_itself_ends_the_mount() -> None:
    def check() -> None:
        watched = Supervisor(lambda: True, can_take_over=True)
        assert watched.run(unmounted, dies) is Ended.UNMOUNTED
        assert (watched.restarts, watched.last_end) == (0, None)

    in_a_process(check)


@pytest.mark.expects_log_error("ends on an internal error")
@pytest.mark.parametrize(("first", "end"), [(dies, "killed by SIGKILL"), (crashes, "ended with status 71")])
def test_dead_worker_is_replaced(first: Callable[[], Status], end: str) -> None:
    def check() -> None:
        watched = Supervisor(lambda: True, can_take_over=True)
        assert watched.run(first, unmounted) is Ended.UNMOUNTED
        assert (watched.restarts, watched.last_end) == (1, end)

    in_a_process(check)


def test_first_worker_is_told_of() -> None:
    told: list[int] = []

    def check() -> None:
        Supervisor(lambda: True, can_take_over=True).run(dies, unmounted, told.append)
        assert len(told) == 1

    in_a_process(check)


def test_workers_that_get_nowhere_are_given_up() -> None:
    def check() -> None:
        watched = Supervisor(lambda: False, can_take_over=True)
        assert watched.run(dies, dies) is Ended.FAILED
        assert watched.restarts == supervisor._MOST_FAILURES

    in_a_process(check)


def test_workers_that_serve_something_are_not_given_up() -> None:
    many = 3 * supervisor._MOST_FAILURES

    def check() -> None:
        watched = Supervisor(lambda: True, can_take_over=True)
        assert watched.run(dies, lambda: dies() if watched.restarts < many else unmounted()) is Ended.UNMOUNTED
        assert watched.restarts == many

    in_a_process(check)


def test_worker_waits_longer_after_each_that_got_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 0.1)
    waited: list[float] = []
    real = signal.sigtimedwait

    def wait(signals: list[signal.Signals], delay: float) -> signal.struct_siginfo | None:
        if signal.SIGCHLD in signals:
            return real(signals, delay)
        waited.append(delay)
        return None

    def check() -> None:
        monkeypatch.setattr(signal, "sigtimedwait", wait)
        Supervisor(lambda: False, can_take_over=True).run(dies, dies)
        assert waited == [0.0, 0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]

    in_a_process(check)


def test_nobody_goes_on_where_the_kernel_sends_nothing_again() -> None:
    def check() -> None:
        watched = Supervisor(lambda: True, can_take_over=False)
        assert watched.run(dies, unmounted) is Ended.FAILED

    in_a_process(check)


def test_restart_is_told_whatever_the_kernel_can() -> None:
    def check() -> None:
        watched = Supervisor(lambda: True, can_take_over=False)
        assert watched.run(lambda: Status.RESTART, dies) is Ended.RESTART
        assert watched.last_end == "restarted"

    in_a_process(check)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_stop_reaches_the_worker_once(number: signal.Signals) -> None:
    def waits() -> Status:
        assert signal.sigwait((STOP_SIGNAL,)) == STOP_SIGNAL
        # Those of a terminal or of systemd go to all processes: the worker takes none of them for a second one.
        assert all(signal.getsignal(other) is signal.SIG_IGN for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        return Status.UNMOUNTED

    def check() -> None:
        watched = Supervisor(lambda: True, can_take_over=True)
        ended = watched.run(waits, dies, lambda _pid: os.kill(os.getpid(), number))
        assert (ended, watched.stopped_by, watched.restarts) == (Ended.UNMOUNTED, number, 0)

    in_a_process(check)


def test_worker_that_takes_over_from_one_told_to_stop_is_told_too() -> None:
    def dies_when_told() -> Status:
        signal.sigwait((STOP_SIGNAL,))
        return dies()

    def waits() -> Status:
        assert signal.sigwait((STOP_SIGNAL,)) == STOP_SIGNAL
        return Status.UNMOUNTED

    def check() -> None:
        watched = Supervisor(lambda: True, can_take_over=True)
        ended = watched.run(dies_when_told, waits, lambda _pid: os.kill(os.getpid(), signal.SIGTERM))
        assert (ended, watched.stopped_by, watched.restarts) == (Ended.UNMOUNTED, signal.SIGTERM, 1)

    in_a_process(check)


def test_signal_while_no_worker_is_there_stops_the_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 60.0)

    def check() -> None:
        watched = Supervisor(lambda: False, can_take_over=True)

        def dies_and_tells() -> Status:
            if watched.restarts == 2:
                os.kill(os.getppid(), signal.SIGTERM)
            return dies()

        assert watched.run(dies, dies_and_tells) is Ended.STOPPED
        assert watched.stopped_by is signal.SIGTERM

    in_a_process(check)


def test_worker_does_not_outlive_its_supervisor() -> None:
    receiver, sender = os.pipe()

    def waits() -> Status:
        os.write(sender, b"%d\n" % os.getpid())
        signal.pause()
        return Status.UNMOUNTED

    pid = os.fork()
    if pid == 0:
        Supervisor(lambda: True, can_take_over=True).run(waits, dies)
        os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as pipe:
        assert int(pipe.readline()) != pid
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        # The pipe ends when nobody holds it any more.
        assert pipe.read() == b""
