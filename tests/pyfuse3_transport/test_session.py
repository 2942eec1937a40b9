from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyfuse3
import pytest
import trio

from tests.fake_filesystem import FakeFilesystem
from tests.pyfuse3_transport.served import TIMEOUT, serve
from unionfs.filesystem import Blocking, StaleAttributes, StatFs
from unionfs.fuse.mounting import unmount
from unionfs.fuse.pyfuse3_session import Pyfuse3Session
from unionfs.fuse.session import Session, SessionError, SessionSettings
from unionfs.linux.mount import mount, umount
from unionfs.linux.mountinfo import read_mountinfo


def test_session_ends_with_umount(mountpoint: Path, filesystem: FakeFilesystem) -> None:
    with serve(mountpoint, filesystem) as served:
        unmount(mountpoint)
        assert served.ended.wait(TIMEOUT)
    assert served.error is None


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[Path]:
    """The kernel's control filesystem of FUSE, which not every machine has mounted."""
    directory = tmp_path / "connections"
    directory.mkdir()
    mount(b"fusectl", bytes(directory), b"fusectl", 0, b"")
    yield directory
    umount(bytes(directory), 0)


def test_session_ends_when_its_connection_is_aborted(mountpoint: Path, filesystem: FakeFilesystem, connections: Path) -> None:
    with serve(mountpoint, filesystem) as served:
        (mounted,) = (mount for mount in read_mountinfo() if mount.mount_point == mountpoint)
        # fusectl names a connection after its device number (fs/fuse/control.c).
        (connections / str(mounted.device) / "abort").write_text("1")
        assert served.ended.wait(TIMEOUT)
    assert served.error is None


def test_sessions_may_follow_each_other(mountpoint: Path) -> None:
    for name in (b"a", b"b"):
        filesystem = FakeFilesystem()
        filesystem.make(name, stat.S_IFREG | 0o644)
        with serve(mountpoint, filesystem):
            assert os.listdir(mountpoint) == [name.decode()]


def test_second_session_beside_the_first_is_refused(mountpoint: Path, filesystem: FakeFilesystem) -> None:
    session: Session = Pyfuse3Session(os.open("/dev/null", os.O_RDONLY), filesystem, SessionSettings())
    with serve(mountpoint, filesystem):
        with pytest.raises(SessionError, match="one mount in a process"):
            trio.run(session.run)
        assert os.listdir(mountpoint) == []


def test_passthrough_is_refused(filesystem: FakeFilesystem) -> None:
    with pytest.raises(SessionError, match="use the direct transport"):
        Pyfuse3Session(0, filesystem, SessionSettings(data_path="passthrough"))


def test_negotiated_and_counters_tell_what_happened(mountpoint: Path, filesystem: FakeFilesystem) -> None:
    with serve(mountpoint, filesystem) as served:
        os.listdir(mountpoint)
        with pytest.raises(FileNotFoundError):
            (mountpoint / "none").unlink()
        assert served.session.negotiated["transport"] == "pyfuse3"
        assert served.session.negotiated["data_path"] == "cached"
        assert str(served.session.negotiated["libfuse"]).startswith("3.")
        counters = served.session.counters
    assert counters["readdir"] >= 1
    assert counters["failures"] == 0


@pytest.mark.expects_log_error("statfs failed; answered with EIO")
def test_exception_in_the_filesystem_is_eio_and_logged(mountpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeFilesystem):
        def statfs(self) -> StatFs:
            raise LookupError("no such thing")

    with serve(mountpoint, Broken()) as served:
        with pytest.raises(OSError, match="Input/output error") as caught:
            os.statvfs(mountpoint)
        assert caught.value.errno == errno.EIO
        assert served.session.counters["failures"] == 1
        (mountpoint / "made").touch()
    assert "LookupError: no such thing" in caplog.text


def test_request_taken_back_before_it_was_read_does_not_end_the_session(
    mountpoint: Path, filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_main = pyfuse3.main
    calls: list[int] = []

    async def main_that_first_finds_nothing() -> None:
        calls.append(1)
        if len(calls) == 1:
            # What pyfuse3's loop does when the read after a poll gives EAGAIN.
            raise ExceptionGroup("", [OSError(errno.EAGAIN, "fuse_session_receive_buf failed")])
        await real_main()

    monkeypatch.setattr(pyfuse3, "main", main_that_first_finds_nothing)
    with serve(mountpoint, filesystem):
        assert os.listdir(mountpoint) == []
    assert len(calls) == 2


def test_other_errors_of_libfuse_end_the_session(
    mountpoint: Path, filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        raise ExceptionGroup("", [OSError(errno.EBADF, "fuse_session_receive_buf failed")])

    monkeypatch.setattr(pyfuse3, "main", main)
    with pytest.RaisesGroup(OSError, flatten_subgroups=True), serve(mountpoint, filesystem):
        pass


def test_notice_makes_the_kernel_ask_again(mountpoint: Path) -> None:
    class Notices(FakeFilesystem):
        def statfs(self) -> StatFs:
            self.child(b"file").mtime_ns = 42
            self.notices.append(StaleAttributes(self.child(b"file").node))
            return super().statfs()

    filesystem = Notices()
    filesystem.make(b"file", stat.S_IFREG | 0o644).mtime_ns = 7
    with serve(mountpoint, filesystem):
        assert (mountpoint / "file").stat().st_mtime_ns == 7
        os.statvfs(mountpoint)
        # The notice follows the reply; a further request cannot be answered before it.
        os.listdir(mountpoint)
        assert (mountpoint / "file").stat().st_mtime_ns == 42
    assert filesystem.notices == []


# -- Blocking -----------------------------------------------------------------------------------------------------------


class Slow(FakeFilesystem):
    """Reads raise `Blocking` with one and the same work, which waits for ``go``, until it ran with ``restart``."""

    def __init__(self, restart: bool, outcome: Callable[[], bytes]) -> None:
        super().__init__()
        self.go = threading.Event()
        self.reads = threading.Semaphore(0)
        self.works = 0
        self.ready = False
        self._restart = restart
        self._outcome = outcome
        self._work = self._run  # bound once: a bound method is a new object each time
        for name in (b"a", b"b"):
            self.make(name, stat.S_IFREG | 0o644, b"content")

    def read(self, node: int, offset: int, size: int) -> bytes:
        self.reads.release()
        if self.ready:
            return super().read(node, offset, size)
        raise Blocking(self._work, self._restart)

    def _run(self) -> bytes:
        self.works += 1
        assert self.go.wait(TIMEOUT)
        self.ready = self._restart
        return self._outcome()

    def wait_for_reads(self, count: int) -> None:
        for _ in range(count):
            assert self.reads.acquire(timeout=TIMEOUT)


def _fails() -> bytes:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_request_is_restarted_after_its_work(mountpoint: Path) -> None:
    filesystem = Slow(restart=True, outcome=lambda: b"no result")
    filesystem.go.set()
    with serve(mountpoint, filesystem) as served:
        assert (mountpoint / "a").read_bytes() == b"content"
        assert served.session.counters["blocking"] == 1
    assert filesystem.works == 1


def test_failure_of_a_work_is_for_the_restarted_request_to_tell(mountpoint: Path) -> None:
    filesystem = Slow(restart=True, outcome=_fails)
    filesystem.go.set()
    with serve(mountpoint, filesystem):
        assert (mountpoint / "a").read_bytes() == b"content"


def test_result_of_a_work_without_restart_is_the_reply(mountpoint: Path) -> None:
    filesystem = Slow(restart=False, outcome=lambda: b"results")
    filesystem.go.set()
    with serve(mountpoint, filesystem):
        assert (mountpoint / "a").read_bytes() == b"results"


def test_error_of_a_work_without_restart_is_the_reply(mountpoint: Path) -> None:
    filesystem = Slow(restart=False, outcome=_fails)
    filesystem.go.set()
    with serve(mountpoint, filesystem), pytest.raises(OSError, match="No space left"):
        (mountpoint / "a").read_bytes()


def test_requests_with_one_work_join_and_others_go_on_meanwhile(mountpoint: Path) -> None:
    filesystem = Slow(restart=True, outcome=lambda: b"")
    with serve(mountpoint, filesystem), ThreadPoolExecutor() as clients:
        reads = [clients.submit((mountpoint / name).read_bytes) for name in ("a", "b")]
        filesystem.wait_for_reads(2)
        (mountpoint / "other").write_text("meanwhile")
        assert not any(read.done() for read in reads)
        filesystem.go.set()
        assert [read.result(TIMEOUT) for read in reads] == [b"content", b"content"]
    assert filesystem.works == 1


def test_cancelled_session_answers_what_it_has_read(mountpoint: Path) -> None:
    filesystem = Slow(restart=True, outcome=lambda: b"")
    with serve(mountpoint, filesystem) as served, ThreadPoolExecutor() as clients:
        read = clients.submit(os.read, os.open(mountpoint / "a", os.O_RDONLY), 100)
        filesystem.wait_for_reads(1)
        served.cancel()
        filesystem.go.set()
        assert read.result(TIMEOUT) == b"content"
        assert served.ended.wait(TIMEOUT)
