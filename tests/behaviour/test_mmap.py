"""Memory mappings and programs: the same pages as read(2) and write(2) see."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from pathlib import Path

import pytest

from .layers import File
from .syscalls import fails_with, opened
from .union import Union

layers = pytest.mark.layers

PAGE = mmap.PAGESIZE
DATA = b"A" * PAGE + b"B" * PAGE

where = pytest.mark.parametrize(
    "where", [pytest.param("lower", marks=layers({"f": DATA})), pytest.param("upper", marks=layers(upper={"f": DATA}))]
)


@where
def test_shared_mapping_writes_the_file(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapping:
        mapping[PAGE : PAGE + 6] = b"mapped"
        assert os.pread(fd, 6, PAGE) == b"mapped", where
        mapping.flush()
        assert (union.merged / "f").read_bytes()[PAGE : PAGE + 6] == b"mapped"
    assert (union.merged / "f").read_bytes()[PAGE : PAGE + 6] == b"mapped"


@where
def test_write_shows_in_a_shared_mapping(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapping:
        assert mapping[:4] == b"AAAA", where
        os.pwrite(fd, b"written", 2)
        assert mapping[:10] == b"AAwrittenA"


@where
def test_two_shared_mappings_see_each_other(union: Union, where: str) -> None:
    path = union.merged / "f"
    with (
        opened(path, os.O_RDWR) as one,
        opened(path, os.O_RDWR) as two,
        mmap.mmap(one, 0) as left,
        mmap.mmap(two, 0) as right,
    ):
        left[7:10] = b"xyz"
        assert right[7:10] == b"xyz", where


@where
def test_private_mapping_leaves_the_file_alone(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as fd, mmap.mmap(fd, 0, access=mmap.ACCESS_COPY) as mapping:
        mapping[:3] = b"xyz"
        assert mapping[:4] == b"xyzA", where
    assert (union.merged / "f").read_bytes() == DATA


@where
def test_read_only_shared_mapping_reads_the_file(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as fd, mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapping:
        assert mapping[:] == DATA, where
        assert mapping.find(b"B") == PAGE


@where
def test_mapping_outlives_its_descriptor_and_its_name(union: Union, where: str) -> None:
    with opened(union.merged / "f", os.O_RDWR) as fd:
        mapping = mmap.mmap(fd, 0)
    (union.merged / "f").unlink()
    mapping[:3] = b"new"
    assert mapping[:4] == b"newA", where
    mapping.close()
    assert union.names() == []


@layers({"f": DATA})
def test_shared_mapping_made_before_copy_up(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as reader, mmap.mmap(reader, 0, access=mmap.ACCESS_READ) as mapping:
        assert mapping[:3] == b"AAA"
        with opened(union.merged / "f", os.O_RDWR) as writer:
            os.pwrite(writer, b"new", 0)
        # K:doc "Non-standard behavior": the mapping stays on the lower file.  With one page cache per inode it need not.
        assert mapping[:3] == union.deviates("mapping-follows-copy-up", kernel=b"AAA", ours=b"new")


SCRIPT = b"#!/bin/sh\necho from script $1\n"


def program() -> bytes:
    """A real ELF program to execute."""
    return Path("/bin/true").read_bytes()


@layers({"true": File(program(), mode=0o755), "script": File(SCRIPT, mode=0o755)})
def test_programs_of_the_lower_run(union: Union) -> None:
    subprocess.run([union.merged / "true"], check=True)
    done = subprocess.run([union.merged / "script", "x"], check=True, capture_output=True)
    assert done.stdout == b"from script x\n"


def test_programs_written_through_the_mount_run(union: Union) -> None:
    (union.merged / "true").write_bytes(program())
    (union.merged / "true").chmod(0o755)
    subprocess.run([union.merged / "true"], check=True)


@layers({"true": File(program(), mode=0o644)})
def test_program_without_execute_permission_is_refused(union: Union) -> None:
    with fails_with(errno.EACCES):
        subprocess.run([union.merged / "true"], check=True)
    (union.merged / "true").chmod(0o755)
    subprocess.run([union.merged / "true"], check=True)


def sleeper() -> bytes:
    """A real ELF program that runs until its standard input ends."""
    return Path("/bin/cat").read_bytes()


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("lower", marks=layers({"cat": File(sleeper(), mode=0o755)})),
        pytest.param("upper", marks=layers(upper={"cat": File(sleeper(), mode=0o755)})),
    ],
)
def test_running_program_cannot_be_written(union: Union, where: str) -> None:
    with subprocess.Popen([union.merged / "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        # Once it answers, its execve(2) has ended.
        running.stdin.write(b"x")
        assert running.stdout.read(1) == b"x", where
        with fails_with(errno.ETXTBSY):
            os.open(union.merged / "cat", os.O_WRONLY)
        running.stdin.close()
    with opened(union.merged / "cat", os.O_WRONLY):
        pass


@layers({"f": File(sleeper(), mode=0o755)})
def test_file_open_for_writing_cannot_be_executed(union: Union) -> None:
    with opened(union.merged / "f", os.O_WRONLY), fails_with(errno.ETXTBSY):
        subprocess.run([union.merged / "f"], check=True, stdin=subprocess.DEVNULL)
