"""A lower layer that does not answer stalls the requests that need it, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.stalling import SLOW, StallingUnion, Waiting, status, until
from tests.mounts import DIRECT, DIRECT_CACHED, PYFUSE3, Backend, run_unionfs

ALL = pytest.mark.parametrize("backend", [DIRECT, DIRECT_CACHED, PYFUSE3], ids=lambda backend: backend.name)
DIRECT_ONLY = pytest.mark.parametrize("backend", [DIRECT], ids=lambda backend: backend.name)


@pytest.fixture
def union(tmp_path: Path, backend: Backend) -> Iterator[StallingUnion]:
    """Mounted."""
    union = StallingUnion(tmp_path, backend)
    union.start()
    yield union
    union.stop()


def write(path: Path, flags: int, data: bytes) -> int:
    fd = os.open(path, flags)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def slow_requests(merged: Path) -> dict[str, tuple[Callable[[], object], object]]:
    """Requests that need the slow layer, and what is to come of them."""
    slow = merged / "slow"
    return {
        "lookup": (lambda: (slow / "deep/er/g").stat().st_size, 4),
        "listing": (lambda: sorted(os.listdir(slow / "deep")), ["er"]),
        "merged listing": (lambda: sorted(os.listdir(merged / "both")), ["local", "slow"]),
        "read": (lambda: (slow / "f").read_bytes(), b"slow"),
        "readlink": (lambda: os.readlink(slow / "link"), "target"),
        "getxattr": (lambda: os.getxattr(slow / "f", "user.name"), b"value"),
        "listxattr": (lambda: os.listxattr(slow / "f"), ["user.name"]),
        "copy-up": (lambda: write(slow / "written", os.O_WRONLY | os.O_APPEND, b" and after"), 10),
        "copy-up of much data": (lambda: write(slow / "large", os.O_WRONLY, b"S"), 1),
        "copy-up of a directory": (lambda: (slow / "deep/er/new").write_bytes(b"new"), 3),
        "rename": (lambda: os.rename(slow / "many/0", slow / "many/moved"), None),
        "removal": (lambda: os.unlink(slow / "many/1"), None),
        **{f"lookup of {number}": (lambda number=number: (slow / f"many/{number}").stat().st_size, 1) for number in range(2, 10)},
        **{
            f"lookup of {number}": (lambda number=number: (slow / f"many/{number}").stat().st_size, 2) for number in range(10, 60)
        },
    }


@ALL
def test_stalled_layer_stalls_its_own_requests_only(union: StallingUnion) -> None:
    merged = union.merged
    assert sorted(os.listdir(merged)) == ["both", "local", "slow"]
    union.stall()
    before = union.waiting()
    requests = slow_requests(merged)
    waiting = {name: Waiting(call) for name, (call, _) in requests.items()}
    until(lambda: union.waiting() > before)
    # All kinds of requests on what needs nothing of it, works in threads (a large copy-up, fsync) among them.
    local = merged / "local"
    assert (local / "f").read_bytes() == b"local"
    assert sorted(os.listdir(local)) == ["deep", "f", "large"]
    assert not (local / "missing").exists()
    assert write(local / "large", os.O_WRONLY | os.O_SYNC, b"l") == 1
    (local / "new").write_bytes(b"new")
    (local / "new").rename(local / "deep/newer")
    (local / "f").unlink()
    assert os.statvfs(merged).f_namemax == 255
    assert status(merged)["union"]["layers"] == 3
    assert not any(call.is_over for call in waiting.values())
    union.go_on()
    assert {name: call.result() for name, call in waiting.items()} == {name: result for name, (_, result) in requests.items()}
    assert (merged / "slow/written").read_bytes() == b"before and after"
    assert (merged / "slow/large").read_bytes() == b"S" + SLOW["slow/large"][1:]
    assert sorted(os.listdir(merged / "slow/many")) == sorted([*map(str, range(2, 60)), "moved"])
    assert (merged / "slow/many/moved").read_bytes() == b"0"
    assert (local / "deep/newer").read_bytes() == b"new"


@DIRECT_ONLY
def test_snapshot_is_taken_while_a_layer_stalls(union: StallingUnion) -> None:
    merged = union.merged
    (merged / "slow/written").write_bytes(b"changed")
    assert (merged / "slow/f").read_bytes() == b"slow"
    union.stall()
    read = Waiting((merged / "slow/deep/er/g").read_bytes)
    until(lambda: union.waiting() > 0)
    run_unionfs(["snapshot", merged])
    (merged / "local/f").write_bytes(b"since")
    assert not read.is_over
    union.go_on()
    assert read.result() == b"deep"
    assert (merged / "slow/written").read_bytes() == b"changed"


@DIRECT_ONLY
def test_killed_client_of_a_stalled_layer_is_gone_at_once(union: StallingUnion) -> None:
    os.listdir(union.merged)
    union.stall()
    before = union.waiting()
    client = subprocess.Popen(["cat", union.merged / "slow/f"], stdout=subprocess.DEVNULL)
    until(lambda: union.waiting() > before)
    client.kill()
    assert client.wait(20) == -signal.SIGKILL
    assert (union.merged / "local/f").read_bytes() == b"local"
    union.go_on()
    assert (union.merged / "slow/f").read_bytes() == b"slow"


@DIRECT_ONLY
def test_signal_that_a_client_handles_does_not_fail_its_request(union: StallingUnion) -> None:
    os.listdir(union.merged)
    union.stall()
    before = union.waiting()
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "print('begins', flush=True)\n"
        "print(os.stat(sys.argv[1]).st_size)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", program, union.merged / "slow/f"], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "begins\n"
    until(lambda: union.waiting() > before)
    client.send_signal(signal.SIGUSR1)
    assert (union.merged / "local/f").read_bytes() == b"local"
    union.go_on()
    assert client.communicate(timeout=20)[0] == "4\n"
    assert client.returncode == 0


@DIRECT_ONLY
def test_union_is_unmounted_while_a_layer_stalls(union: StallingUnion) -> None:
    os.listdir(union.merged)
    union.stall()
    before = union.waiting()
    client = subprocess.Popen(["cat", union.merged / "slow/f"], stdout=subprocess.DEVNULL)
    until(lambda: union.waiting() > before)
    client.kill()
    client.wait(20)
    run_unionfs(["umount", union.merged])
    # Upper and work directory are free.
    assert union.upper is not None
    assert union.work is not None
    union.backend.mount([union.local], union.upper, union.work, union.merged)
    assert (union.merged / "local/f").read_bytes() == b"local"
