"""Loading something while requests are answered; the test is the kernel."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.kernel_end import DEADLINE, connected
from unionfs.fuse.protocol import Opcode
from unionfs.mounter.loading import load_while_serving


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[FakeFilesystem]:
    fake = FakeFilesystem(tmp_path)
    yield fake
    fake.close()


def test_requests_are_answered_before_it_is_loaded(filesystem: FakeFilesystem) -> None:
    answered = threading.Event()

    def load() -> str:
        assert answered.wait(DEADLINE)
        return "loaded"

    filesystem.hooks["statfs"] = lambda: answered.set()
    with connected(filesystem) as (kernel, connection):
        unique = kernel.send(Opcode.STATFS)
        assert load_while_serving(load, connection) == "loaded"
        assert kernel.receive().unique == unique


def test_what_goes_wrong_is_raised(filesystem: FakeFilesystem) -> None:
    def load() -> None:
        raise ModuleNotFoundError("no such module")

    with connected(filesystem) as (_kernel, connection), pytest.raises(ModuleNotFoundError, match="no such module"):
        load_while_serving(load, connection)


def test_threads_take_short_turns_meanwhile_and_as_before_afterwards(filesystem: FakeFilesystem) -> None:
    before = sys.getswitchinterval()
    with connected(filesystem) as (_kernel, connection):
        assert load_while_serving(sys.getswitchinterval, connection) < before
    assert sys.getswitchinterval() == before


def test_loading_is_over_when_serving_fails(filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    interval = sys.getswitchinterval()

    def fail(_wake: int) -> None:
        raise ZeroDivisionError("bug")

    with connected(filesystem) as (_kernel, connection):
        monkeypatch.setattr(connection, "serve_until", fail)
        with pytest.raises(ZeroDivisionError):
            load_while_serving(lambda: ran.append("loaded"), connection)
    assert ran == ["loaded"]
    assert sys.getswitchinterval() == interval


def test_blocked_signals_stay_blocked_where_it_is_loaded(filesystem: FakeFilesystem) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        with connected(filesystem) as (_kernel, connection):
            blocked = load_while_serving(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, set()), connection)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert signal.SIGHUP in blocked


def test_what_a_mount_needs_before_it_is_ready_loads_no_trio() -> None:
    program = "import sys, unionfs.cli.mount, unionfs.mounter.daemon, unionfs.mounter.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60)
    loaded = done.stdout.split()
    assert "unionfs.fuse.direct_connection" in loaded
    assert not {"trio", "pyfuse3", "unionfs.fuse.direct_session", "unionfs.mounter.serving"}.intersection(loaded)
