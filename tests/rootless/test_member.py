"""Finding the processes that are in a user's namespaces."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from unionfs.linux.user_namespaces import IdRange, mapped_uids, namespace_identity
from unionfs.rootless.member import MARK, Namespaces, door, saved

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to look at what it starts")


BASE = Path("/run/of/the/test")


@contextlib.contextmanager
def member(*, has_mark: bool = True, base: Path = BASE) -> Iterator[Namespaces]:
    """A process in namespaces of its own, which shows so or does not; those namespaces."""
    # An id that no other namespace has which gets the same number afterwards.
    ids = ("--map-user=4242", "--map-group=4242")
    show = f'export {MARK}="$(stat -L -c %d:%i /proc/self/ns/user) $(stat -L -c %d:%i /proc/self/ns/mnt) {base}";'
    script = f"{show if has_mark else ''} exec sh -c 'echo in; read end'"
    command = ["unshare", "--user", *ids, "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        proc = f"/proc/{process.pid}/ns"
        uids = mapped_uids(str(process.pid))
        yield Namespaces(namespace_identity(f"{proc}/user"), namespace_identity(f"{proc}/mnt"), uids)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("is_saved", [True, False])
def test_process_with_the_mark_is_a_door_into_both_namespaces(is_saved: bool) -> None:
    with member() as wanted, door(BASE, wanted if is_saved else None) as found:
        assert found is not None
        assert found.mounts is not None
        identities = [(os.fstat(fd).st_dev, os.fstat(fd).st_ino) for fd in (found.user, found.mounts)]
        assert identities == [wanted.user, wanted.mounts]


def test_process_with_the_mark_of_another_registry_is_no_door() -> None:
    with member(base=Path("/run/of/another")), door(BASE, None) as found:
        assert found is None


def test_process_without_the_mark_is_a_door_into_the_user_namespace_alone() -> None:
    with member(has_mark=False) as wanted, door(BASE, wanted) as found:
        assert found is not None
        assert found.mounts is None


def test_process_that_took_the_mark_along_into_another_mount_namespace_is_none_into_the_mounts() -> None:
    show = f'export {MARK}="$(stat -L -c %d:%i /proc/self/ns/user) $(stat -L -c %d:%i /proc/self/ns/mnt) {BASE}"'
    script = f"{show}; exec unshare --mount sh -c 'echo in; read end'"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        with door(BASE, None) as found:
            assert found is None
        assert process.stdin is not None
        process.stdin.close()


def test_user_namespace_with_other_ids_is_not_the_one() -> None:
    with member(has_mark=False) as wanted, door(BASE, replace(wanted, uids=[IdRange(0, 5, 1)])) as found:
        assert found is None


def test_nobody_is_found_after_the_end() -> None:
    with member() as wanted:
        pass
    with door(BASE, wanted) as found:
        assert found is None


def test_what_was_saved_is_read_again_and_what_was_damaged_is_not(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert saved(path) is None
    wanted = Namespaces((4, 5), (4, 6), [IdRange(0, 1000, 1), IdRange(1, 100000, 65536)])
    wanted.save(path)
    assert saved(path) == wanted
    path.write_text(path.read_text()[:-9])
    assert saved(path) is None
    path.write_text("[]")
    assert saved(path) is None
