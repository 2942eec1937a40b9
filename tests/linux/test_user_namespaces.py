"""Looking at user namespaces, and joining one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from unionfs.linux.user_namespaces import IdRange, contains, mapped_gids, mapped_uids, may_set_groups, namespace_identity


@pytest.fixture
def inside() -> Iterator[int]:
    """A process in a user namespace and a mount namespace of its own, where it is 7:8."""
    command = ["unshare", "--user", "--map-user=7", "--map-group=8", "--mount", "sh", "-c", "echo in; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_maps_of_a_process_are_told(inside: int) -> None:
    assert mapped_uids(str(inside)) == [IdRange(7, os.geteuid(), 1)]
    assert mapped_gids(str(inside)) == [IdRange(8, os.getegid(), 1)]
    assert contains(mapped_uids(str(inside)), 7)
    assert not contains(mapped_uids(str(inside)), 8)


def test_namespaces_of_two_processes_are_told_apart(inside: int) -> None:
    for kind in ("user", "mnt"):
        assert namespace_identity(f"/proc/{inside}/ns/{kind}") != namespace_identity(f"/proc/self/ns/{kind}")
        assert namespace_identity(f"/proc/{os.getpid()}/ns/{kind}") == namespace_identity(f"/proc/self/ns/{kind}")


@pytest.mark.skipif(os.geteuid() != 0, reason="the test's own namespace is looked at as root")
def test_groups_may_be_set_where_nobody_forbade_it() -> None:
    assert may_set_groups()


def test_process_that_joined_is_inside_and_has_the_rights_of_root(inside: int) -> None:
    script = f"""
import os
from unionfs.linux.capabilities import CAP_SYS_ADMIN, has_capability
from unionfs.linux.user_namespaces import join_mount_namespace, join_user_namespace, may_set_groups, namespace_identity
ends = [os.open(f"/proc/{inside}/ns/{{kind}}", os.O_RDONLY) for kind in ("user", "mnt")]
join_user_namespace(ends[0])
join_mount_namespace(ends[1])
print(os.getuid(), has_capability(CAP_SYS_ADMIN), may_set_groups())
print([namespace_identity(f"/proc/self/ns/{{kind}}") for kind in ("user", "mnt")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    wanted = [namespace_identity(f"/proc/{inside}/ns/{kind}") for kind in ("user", "mnt")]
    assert (done.stderr, done.stdout) == ("", f"7 True False\n{wanted}\n")
