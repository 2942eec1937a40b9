"""The direct session on a real mount; this process is server (in a thread) and client."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.serving import DEADLINE, Served, served, wait_until
from unionfs.filesystem import ROOT_ID, Blocking, StaleAttributes
from unionfs.fuse.mounting import unmount
from unionfs.fuse.negotiation import MAX_WRITE
from unionfs.fuse.session import DataPath, SessionError, SessionSettings

T = TypeVar("T")
DATA_PATHS: tuple[DataPath, ...] = ("passthrough", "cached")


@pytest.fixture(params=DATA_PATHS)
def running(request: pytest.FixtureRequest, mountpoint: Path, filesystem: FakeFilesystem) -> Iterator[Served]:
    """A mount on each data path."""
    with served(mountpoint, filesystem, SessionSettings(data_path=request.param)) as mounted:
        yield mounted


@pytest.fixture
def cached(mountpoint: Path, filesystem: FakeFilesystem) -> Iterator[Served]:
    with served(mountpoint, filesystem, SessionSettings(data_path="cached")) as mounted:
        yield mounted


@contextlib.contextmanager
def client() -> Iterator[Callable[..., Future[Any]]]:
    """Runs client calls that have to wait, in threads of their own."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit


class Gate:
    """A work that starts, and ends when it is let through."""

    def __init__(self, result: object = None) -> None:
        self.runs = 0
        self.started = threading.Event()
        self.opened = threading.Event()
        self.result = result

    def work(self) -> object:
        self.runs += 1
        self.started.set()
        assert self.opened.wait(DEADLINE)
        return self.result


def once(error: BaseException) -> Callable[..., None]:
    """A hook that raises ``error`` the first time only."""
    errors = [error]

    def hook(*_: object) -> None:
        if errors:
            raise errors.pop()

    return hook


# -- the session as a whole -------------------------------------------------------------------------------------------


def test_session_ends_without_error_when_unmounted(running: Served) -> None:
    unmount(running.mountpoint)
    assert running.ended.wait(DEADLINE)
    assert running.error is None


def test_session_ends_without_error_when_aborted(running: Served) -> None:
    running.abort()
    assert running.ended.wait(DEADLINE)
    assert running.error is None


@pytest.mark.parametrize("data_path", DATA_PATHS)
def test_negotiated_tells_what_was_settled(mountpoint: Path, filesystem: FakeFilesystem, data_path: DataPath) -> None:
    with served(mountpoint, filesystem, SessionSettings(data_path=data_path, spin_us=0, stack_depth=2)) as running:
        negotiated = running.session.negotiated
        assert negotiated["transport"] == "direct"
        assert negotiated["data_path"] == data_path
        assert negotiated["spin_us"] == 0
        assert negotiated["stack_depth"] == (2 if data_path == "passthrough" else 0)
        assert "readdirplus" in str(negotiated["flags"])


def test_counters_name_requests_and_errors(running: Served) -> None:
    with pytest.raises(FileNotFoundError):
        os.rmdir(running.mountpoint / "missing")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(running.mountpoint, "user.a")
    counters = running.session.counters
    assert counters["init"] == counters["lookup"] == counters["getxattr"] == 1
    assert (counters["errors"], counters["failures"], counters["blocking"]) == (1, 0, 0)


# -- plain work -------------------------------------------------------------------------------------------------------


def test_tree_can_be_made_read_and_removed(running: Served) -> None:
    top = running.mountpoint
    (top / "d").mkdir(mode=0o750)
    (top / "d" / "f").write_bytes(b"x" * 3_000_000)
    (top / "link").symlink_to("d/f")
    os.link(top / "d" / "f", top / "hard")
    os.mkfifo(top / "fifo")
    assert sorted(os.listdir(top)) == ["d", "fifo", "hard", "link"]
    assert stat.S_IMODE((top / "d").stat().st_mode) == 0o750
    assert (top / "link").read_bytes() == b"x" * 3_000_000
    assert (top / "hard").stat().st_nlink == 2
    (top / "hard").rename(top / "d" / "moved")
    os.truncate(top / "d" / "moved", 5)
    assert (top / "d" / "f").read_bytes() == b"xxxxx"
    for path in (top / "d" / "f", top / "d" / "moved", top / "link", top / "fifo"):
        path.unlink()
    (top / "d").rmdir()
    assert os.listdir(top) == []
    assert running.session.counters["failures"] == 0


def test_opening_with_truncation_empties_the_file(running: Served, filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f", b"content")
    path = running.mountpoint / "f"
    assert path.read_bytes() == b"content"
    with path.open("wb") as file:
        assert filesystem.content(node) == b""
        file.write(b"new")
    assert path.read_bytes() == filesystem.content(node) == b"new"


def test_repeated_opens_of_files_and_directories_cost_no_request_on_the_cached_path(
    cached: Served, filesystem: FakeFilesystem
) -> None:
    filesystem.add(b"f", b"content")
    for _ in range(3):
        fd = os.open(cached.mountpoint / "f", os.O_RDONLY)
        assert os.read(fd, 100) == b"content"
        os.close(fd)
        assert os.listdir(cached.mountpoint) == ["f"]
    counters = cached.session.counters
    assert counters["open"] == counters["opendir"] == counters["read"] == 1
    assert "release" not in counters


def test_missing_name_is_looked_up_once(running: Served, filesystem: FakeFilesystem) -> None:
    for _ in range(3):
        assert not (running.mountpoint / "missing").exists()
    assert filesystem.calls["lookup"] == 1


def test_listing_counts_each_lookup_once(running: Served, filesystem: FakeFilesystem) -> None:
    nodes = {f"name-{number:04}": filesystem.add(b"name-%04d" % number) for number in range(500)}
    assert os.listdir(running.mountpoint) == list(nodes)
    assert filesystem.calls["unread"] > 0
    for name in nodes:
        os.stat(running.mountpoint / name)
    # Rows passed on by READDIRPLUS need no LOOKUP; the row given back and those of READDIR do.
    assert {filesystem.nlookup[node] for node in nodes.values()} == {1}


def test_error_in_a_listing_reaches_the_reader(running: Served, filesystem: FakeFilesystem) -> None:
    filesystem.add(b"good")
    filesystem.add(b"bad")

    def fail(name: bytes) -> None:
        if name == b"bad":
            raise OSError(errno.EUCLEAN, "broken")

    filesystem.hooks["row"] = fail
    with pytest.raises(OSError, match="Structure needs cleaning"):
        os.listdir(running.mountpoint)


@pytest.mark.parametrize("size", [0, 1, 4096, 65536])
def test_xattr_of_any_size_goes_both_ways(running: Served, filesystem: FakeFilesystem, size: int) -> None:
    node = filesystem.add(b"f")
    path = running.mountpoint / "f"
    os.setxattr(path, "user.a", b"v" * size)
    assert os.getxattr(path, "user.a") == filesystem.nodes[node].xattrs[b"user.a"] == b"v" * size
    assert os.listxattr(path) == ["user.a"]
    os.removexattr(path, "user.a")
    assert os.listxattr(path) == []


@pytest.mark.parametrize("change", ["printf x 1<> file", ": > file", "truncate -s 1 file"])
def test_change_by_another_user_drops_the_set_id_bits(running: Served, filesystem: FakeFilesystem, change: str) -> None:
    node = filesystem.add(b"file", b"content", mode=0o6777)
    # The child enters the mount only once it is a program of its own: until then `subprocess` holds the interpreter lock, which
    # the server, a thread of ours, needs to answer it.
    program = (
        "import os, sys; os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534); os.execvp('sh', ['sh', '-c', sys.argv[2]])"
    )
    command = [sys.executable, "-I", "-c", program, running.mountpoint, f"{change} && stat -c %a file"]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE)
    assert done.stdout == b"777\n"
    assert stat.S_IMODE(filesystem.nodes[node].mode) == 0o777


# -- slow work --------------------------------------------------------------------------------------------------------


def test_request_that_waits_lets_others_be_served_and_is_restarted(running: Served, filesystem: FakeFilesystem) -> None:
    gate = Gate()
    filesystem.add(b"slow", b"content")
    filesystem.add(b"quick")
    slow = once(Blocking(gate.work))
    filesystem.hooks["lookup"] = lambda _parent, name: slow() if name == b"slow" else None
    with client() as call:
        waiting = call(os.stat, running.mountpoint / "slow")
        assert gate.started.wait(DEADLINE)
        os.stat(running.mountpoint / "quick")
        assert not waiting.done()
        gate.opened.set()
        assert waiting.result(DEADLINE).st_size == len(b"content")
    assert filesystem.calls["lookup"] == 3
    assert running.session.counters["blocking"] == 1


def test_requests_that_wait_hold_no_receive_buffer(running: Served, filesystem: FakeFilesystem) -> None:
    gate = Gate()
    names = [b"file%d" % number for number in range(3)]
    waits = {name: once(Blocking(gate.work)) for name in names}
    for name in names:
        filesystem.add(name)
    filesystem.hooks["lookup"] = lambda _parent, name: waits[name]()
    with client() as call:
        tracemalloc.start()
        try:
            waiting = [call(os.stat, running.mountpoint / os.fsdecode(name)) for name in names]
            wait_until(lambda: running.session.counters["blocking"] == len(names))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        gate.opened.set()
        for stats in waiting:
            assert stats.result(DEADLINE).st_size == 0
    assert held < MAX_WRITE


def test_restarted_request_may_wait_again(running: Served, filesystem: FakeFilesystem) -> None:
    ran: list[str] = []
    waits = [Blocking(lambda: ran.append("second")), Blocking(lambda: ran.append("first"))]
    filesystem.add(b"link", target=b"target")

    def hook(_node: int) -> None:
        if waits:
            raise waits.pop()

    filesystem.hooks["readlink"] = hook
    assert os.readlink(running.mountpoint / "link") == "target"
    assert ran == ["first", "second"]


def test_requests_that_wait_for_the_same_work_share_it(running: Served, filesystem: FakeFilesystem) -> None:
    gate = Gate()
    work = gate.work
    names = ("a", "b", "c")
    waits = {name.encode(): once(Blocking(work)) for name in names}
    for name in names:
        filesystem.add(name.encode())
    filesystem.hooks["lookup"] = lambda _parent, name: waits[name]()
    with client() as call:
        waiting = [call(os.stat, running.mountpoint / name) for name in names]
        wait_until(lambda: running.session.counters["blocking"] == 3)
        gate.opened.set()
        for stats in waiting:
            assert stat.S_ISREG(stats.result(DEADLINE).st_mode)
    assert gate.runs == 1


def test_result_of_work_without_restart_is_the_reply(running: Served, filesystem: FakeFilesystem) -> None:
    filesystem.add(b"link", target=b"unused")
    filesystem.hooks["readlink"] = once(Blocking(lambda: b"from work", restart=False))
    assert os.readlink(running.mountpoint / "link") == "from work"
    assert filesystem.calls["readlink"] == 1


def test_error_of_work_without_restart_is_the_error(running: Served, filesystem: FakeFilesystem) -> None:
    def work() -> None:
        raise OSError(errno.EDQUOT, "quota")

    filesystem.add(b"link", target=b"unused")
    filesystem.hooks["readlink"] = once(Blocking(work, restart=False))
    with pytest.raises(OSError, match="quota exceeded") as caught:
        os.readlink(running.mountpoint / "link")
    assert caught.value.errno == errno.EDQUOT


def test_write_that_waits_keeps_its_data(cached: Served, filesystem: FakeFilesystem) -> None:
    gate = Gate()
    slow, quick = filesystem.add(b"slow"), filesystem.add(b"quick")
    wait = once(Blocking(gate.work))
    filesystem.hooks["write"] = lambda node, *_: wait() if node == slow else None
    with client() as call:
        waiting = call((cached.mountpoint / "slow").write_bytes, b"s" * 200_000)
        assert gate.started.wait(DEADLINE)
        (cached.mountpoint / "quick").write_bytes(b"q" * 200_000)
        gate.opened.set()
        waiting.result(DEADLINE)
    assert filesystem.content(slow) == b"s" * 200_000
    assert filesystem.content(quick) == b"q" * 200_000


def test_session_ends_only_after_its_works_and_takes_back_undelivered_lookups(
    running: Served, filesystem: FakeFilesystem
) -> None:
    gate = Gate()
    node = filesystem.add(b"slow")
    filesystem.hooks["lookup"] = once(Blocking(gate.work))
    with client() as call:
        waiting = call(os.stat, running.mountpoint / "slow")
        assert gate.started.wait(DEADLINE)
        running.abort()
        with pytest.raises(OSError, match="abort"):
            waiting.result(DEADLINE)
        assert not running.ended.is_set()
        gate.opened.set()
        assert running.ended.wait(DEADLINE)
    assert running.error is None
    assert filesystem.calls["lookup"] == 2
    assert filesystem.nlookup[node] == 0


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.expects_log_error("readlink of node 2 failed: ZeroDivisionError")
def test_exception_in_the_filesystem_is_eio_and_logged(
    running: Served, filesystem: FakeFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem.add(b"link", target=b"target")
    filesystem.hooks["readlink"] = once(ZeroDivisionError("bug"))
    with pytest.raises(OSError, match="Input/output error"):
        os.readlink(running.mountpoint / "link")
    assert os.readlink(running.mountpoint / "link") == "target"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("unionfs.fuse", "ERROR")
    assert "in hook" in (caplog.text)
    assert running.session.counters["failures"] == 1


@pytest.mark.expects_log_error("readlink of node 2 failed: ZeroDivisionError")
def test_exception_in_work_is_eio_and_logged(running: Served, filesystem: FakeFilesystem) -> None:
    filesystem.add(b"link", target=b"target")
    filesystem.hooks["readlink"] = once(Blocking(lambda: 1 // 0))
    with pytest.raises(OSError, match="Input/output error"):
        os.readlink(running.mountpoint / "link")
    assert running.session.counters["failures"] == 1


@pytest.mark.expects_log_error("readlink of node 2 failed: OSError")
def test_errno_that_the_kernel_would_not_accept_is_eio(running: Served, filesystem: FakeFilesystem) -> None:
    filesystem.add(b"link", target=b"target")
    filesystem.hooks["readlink"] = once(OSError(512, "ERESTARTSYS"))
    with pytest.raises(OSError, match="Input/output error"):
        os.readlink(running.mountpoint / "link")


@pytest.mark.expects_log_error("readlink of node 2 failed: OSError")
def test_reply_that_the_kernel_does_not_accept_is_an_error_and_no_hang(running: Served, filesystem: FakeFilesystem) -> None:
    filesystem.add(b"link", target=b"x" * 100_000)
    with pytest.raises(OSError, match="Input/output error"):
        os.readlink(running.mountpoint / "link")


def test_enosys_of_the_filesystem_does_not_turn_the_request_off(running: Served, filesystem: FakeFilesystem) -> None:
    filesystem.nodes[ROOT_ID].xattrs[b"user.a"] = b"value"
    filesystem.hooks["getxattr"] = once(OSError(errno.ENOSYS, "not here"))
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(running.mountpoint, "user.a")
    assert os.getxattr(running.mountpoint, "user.a") == b"value"


def test_stale_node_makes_the_kernel_look_up_again_and_open_the_new_one(mountpoint: Path, filesystem: FakeFilesystem) -> None:
    old = filesystem.add(b"f", b"old")
    with served(mountpoint, filesystem, SessionSettings(data_path="passthrough")):
        os.stat(mountpoint / "f")
        del filesystem.nodes[ROOT_ID].names[b"f"]
        filesystem.add(b"f", b"new")

        def refuse_old(node: int, *_: object) -> None:
            if node == old:
                raise OSError(errno.ESTALE, "copied up while pinned")

        filesystem.hooks["open"] = refuse_old
        assert (mountpoint / "f").read_bytes() == b"new"


# -- what the kernel remembers ----------------------------------------------------------------------------------------


# On the cached path the kernel itself owns size and times, and no file is ever pinned, so nothing gets stale there.


@pytest.fixture
def passthrough(mountpoint: Path, filesystem: FakeFilesystem) -> Iterator[Served]:
    with served(mountpoint, filesystem, SessionSettings(data_path="passthrough")) as mounted:
        yield mounted


def test_attributes_are_asked_for_once_until_a_notice(passthrough: Served, filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f", b"1")
    filesystem.add(b"other")
    path = passthrough.mountpoint / "f"
    assert path.stat().st_size == path.stat().st_size == 1
    os.pwrite(filesystem.nodes[node].fd, b"22", 0)
    assert path.stat().st_size == 1
    filesystem.hooks["lookup"] = lambda *_: filesystem.notices.append(StaleAttributes(node))
    os.stat(passthrough.mountpoint / "other")
    assert path.stat().st_size == 2
    assert filesystem.notices == []


def test_notice_for_a_node_that_the_kernel_does_not_know_is_no_error(running: Served, filesystem: FakeFilesystem) -> None:
    filesystem.add(b"f")
    filesystem.hooks["lookup"] = lambda *_: filesystem.notices.append(StaleAttributes(4711))
    os.stat(running.mountpoint / "f")
    wait_until(lambda: filesystem.notices == [])
    assert running.session.counters["failures"] == 0


def test_attributes_of_a_stale_node_are_asked_for_each_time(passthrough: Served, filesystem: FakeFilesystem) -> None:
    node = filesystem.add(b"f", b"1")
    filesystem.stale.add(node)
    path = passthrough.mountpoint / "f"
    assert path.stat().st_size == 1
    os.pwrite(filesystem.nodes[node].fd, b"22", 0)
    assert path.stat().st_size == 2


# -- INIT -------------------------------------------------------------------------------------------------------------


def test_impossible_demand_ends_the_session_with_its_error(
    mountpoint: Path, filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unionfs.fuse.handshake._may_register_backing", lambda: False)
    with served(mountpoint, filesystem, SessionSettings(data_path="passthrough")) as running:
        assert running.ended.wait(DEADLINE)
        with pytest.raises(OSError, match=r"refused|reset"):
            os.listdir(mountpoint)
    (error,) = _leaves(running.error)
    assert isinstance(error, SessionError)
    assert "CAP_SYS_ADMIN" in str(error)


def _leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for nested in error.exceptions for leaf in _leaves(nested)]
    return [] if error is None else [error]


def test_what_the_kernel_forgot_and_nobody_heard_of_is_forgotten(running: Served, filesystem: FakeFilesystem) -> None:
    unknown = 10**9
    filesystem.nlookup.update({ROOT_ID: 5, unknown: 3})
    trio.run(running.session.forget_unknown, [ROOT_ID, unknown], filesystem.nlookup.__getitem__)
    assert (filesystem.nlookup[ROOT_ID], filesystem.nlookup[unknown]) == (5, 0)


def test_node_that_somebody_was_told_of_meanwhile_is_not_forgotten(running: Served, filesystem: FakeFilesystem) -> None:
    counts = iter((3, 4))
    trio.run(running.session.forget_unknown, [10**9], lambda _node: next(counts))
    assert filesystem.calls["forget"] == 0
