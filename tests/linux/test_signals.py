from __future__ import annotations

import signal
import threading

from unionfs.linux.signals import is_being_killed


def test_nobody_here_is_being_killed() -> None:
    assert not is_being_killed(threading.get_native_id())


def test_thread_that_is_not_there_is_not_being_killed() -> None:
    assert not is_being_killed(0)


def test_another_signal_that_is_pending_kills_nobody() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert signal.SIGUSR1 in signal.sigpending()
        assert not is_being_killed(threading.get_native_id())
        signal.sigwait([signal.SIGUSR1])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
