"""The beginning of a connection, with the test as the kernel, and on a mount that is taken away."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.kernel_end import kernel_end
from unionfs.fuse.handshake import connect
from unionfs.fuse.mounting import MountOptions, mount, unmount
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.session import SessionError, SessionSettings


def test_newer_major_version_is_answered_with_ours_and_asked_again(filesystem: FakeFilesystem) -> None:
    with kernel_end() as (kernel, fd):
        kernel.send_init(major=8)
        kernel.send_init()
        connection = connect(fd, filesystem, SessionSettings())
        first, second = kernel.receive(), kernel.receive()
    assert (first.error, first.payload[:4]) == (0, b"\7\0\0\0")
    assert second.error == 0
    assert connection.negotiated.describe()["protocol"] == "7.45"
    assert connection.counters["init"] == 2


def test_too_old_kernel_gets_an_error_reply(filesystem: FakeFilesystem) -> None:
    with kernel_end() as (kernel, fd):
        kernel.send_init(minor=30)
        with pytest.raises(SessionError, match=r"7\.30"):
            connect(fd, filesystem, SessionSettings())
        assert kernel.receive().error == errno.EPROTO


def test_connection_that_does_not_begin_with_init_is_an_error(filesystem: FakeFilesystem) -> None:
    with kernel_end() as (kernel, fd):
        kernel.send(Opcode.GETATTR, body=bytes(16))
        with pytest.raises(SessionError, match="instead of INIT"):
            connect(fd, filesystem, SessionSettings())


def test_kernel_that_sends_nothing_is_not_waited_for_without_end(filesystem: FakeFilesystem) -> None:
    with kernel_end() as (_kernel, fd), pytest.raises(SessionError, match="the kernel sent nothing"):
        connect(fd, filesystem, SessionSettings(), patience=0)


def test_mount_that_is_gone_before_it_is_ready_is_an_error(filesystem: FakeFilesystem, mountpoint: Path) -> None:
    fd = mount(mountpoint, MountOptions())
    unmount(mountpoint, lazy=True)
    with pytest.raises(SessionError, match="taken away before it was ready"):
        connect(fd, filesystem, SessionSettings())
    os.close(fd)
