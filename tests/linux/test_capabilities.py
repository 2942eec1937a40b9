from __future__ import annotations

import subprocess
import sys

import pytest

from unionfs.linux.capabilities import CAP_MKNOD, CAP_SYS_ADMIN, has_capability, in_initial_user_namespace


def _in_child(prefix: list[str], expression: str) -> str:
    code = f"from unionfs.linux.capabilities import *; print({expression})"
    return subprocess.run(
        [*prefix, sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout.strip()


def test_root_has_sys_admin() -> None:
    assert has_capability(CAP_SYS_ADMIN)


def test_dropped_capability_is_missing_and_others_stay() -> None:
    prefix = ["setpriv", "--bounding-set", "-mknod"]
    assert _in_child(prefix, f"has_capability({CAP_MKNOD}), has_capability({CAP_SYS_ADMIN})") == "False True"


@pytest.mark.parametrize(("prefix", "expected"), [([], "True"), (["unshare", "--user", "--map-root-user"], "False")])
def test_only_the_first_user_namespace_is_initial(prefix: list[str], expected: str) -> None:
    assert _in_child(prefix, "in_initial_user_namespace()") == expected


def test_this_process_agrees_with_its_uid_map() -> None:
    with open("/proc/self/uid_map") as uid_map:
        maps_everything = uid_map.read().split() == ["0", "0", "4294967295"]
    assert in_initial_user_namespace() == maps_everything
