"""What a user without rights meets besides the cases of `tests.behaviour`: the life of a mount, and what is not his."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mounts import DIRECT, KERNEL, Backend, is_mounted
from tests.programs import run
from tests.rootless.test_behaviour import ROOT
from tests.rootless.user import HOME

BIN = Path(sys.executable).parent


class Ended(NamedTuple):
    """How a shell script of the user ended."""

    status: int
    stdout: str
    stderr: str


def as_user(scratch: Path, script: str) -> Ended:
    """Run shell commands as the user, in his home, with layers ``lower`` (a file ``file``) and empty ``upper``, ``merged``."""
    make = "mkdir lower upper merged; echo lower > lower/file; trap 'fusermount3 -u -z -q merged || :' EXIT"
    done = subprocess.run(
        [sys.executable, "-m", "tests.rootless.user", scratch, "sh", "-ec", f"cd {HOME}; PATH={BIN}:$PATH; {make}\n{script}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


MOUNT = "unionfs mount -l lower -u upper merged"


def test_killed_daemon_is_cleaned_up_by_the_user_and_mounted_again(tmp_path: Path) -> None:
    script = f"""
        {MOUNT}
        echo changed > merged/file
        rm merged/file
        kill -9 $(unionfs ls --json | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p')
        until ! ls merged 2> ls.err; do :; done
        unionfs umount merged
        {MOUNT}
        ls merged
        unionfs umount merged
        unionfs ls --json
        unionfs check -l lower upper
    """
    ended = as_user(tmp_path, script)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.startswith("[]\n")


def test_read_only_file_of_the_user_is_copied_up_with_its_origin(tmp_path: Path) -> None:
    script = f"""
        chmod 444 lower/file
        {MOUNT}
        before=$(stat -c %i merged/file)
        chmod 440 merged/file
        unionfs umount merged
        getfattr --only-values -n user.overlay.origin upper/file | wc -c
        stat -c %a upper/file
    """
    ended = as_user(tmp_path, script)
    assert (ended.status, ended.stderr) == (0, "")
    origin, mode = ended.stdout.split()
    assert int(origin) > 0
    assert mode == "440"


def test_directory_without_permissions_is_changed_by_its_owner(tmp_path: Path) -> None:
    script = f"""
        mkdir lower/closed
        {MOUNT}
        chmod 0 merged/closed
        setfattr -n user.x -v 1 merged/closed 2> denied || true
        chmod 700 merged/closed
        touch merged/closed/new
        chmod 300 merged/closed
        mkdir merged/closed/sub
        chmod 755 merged/closed
        ls merged/closed
        unionfs umount merged
    """
    assert as_user(tmp_path, script) == Ended(0, "new\nsub\n", "")


def test_work_directory_that_the_kernel_closed_is_refused_with_the_remedy(tmp_path: Path) -> None:
    script = f"""
        mkdir -p work/work
        chmod 0 work/work
        {MOUNT} -w work || true
        chmod u+rwx work/work
        {MOUNT} -w work
        unionfs umount merged
    """
    ended = as_user(tmp_path, script)
    assert (ended.status, ended.stdout) == (0, "")
    remedy = f"chmod u+rwx {HOME}/work/work, which OverlayFS closes, or run as root"
    assert ended.stderr == f"unionfs: {HOME}/work/work/incompat: permission denied; {remedy}\n"


def test_file_of_another_owner_cannot_be_copied_up_which_the_log_explains_once(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for name in ("one", "two"):
        (others / name).write_text("of root\n")
        (others / name).chmod(0o666)
    script = """
        unionfs mount -l others -u upper -o log=log merged
        (echo x > merged/one) 2> one || echo refused
        (echo x > merged/two) 2> two || echo refused
        cat one two merged/one
        ls upper
        unionfs umount merged
        cat log
    """
    ended = as_user(tmp_path, script)
    assert ended.status == 0
    assert ended.stdout.count("refused\n") == 2
    assert ended.stdout.count("Operation not permitted") == 2
    assert "of root\n" in ended.stdout
    assert ended.stdout.count("belongs to user 0 and group 0") == 1


@pytest.mark.parametrize("word", ["allow_other", ""])
def test_others_may_use_the_mount_only_if_the_user_said_so(tmp_path: Path, word: str) -> None:
    script = f"""
        {MOUNT} {"-o allow_other" if word else ""}
        grep ' {HOME}/merged ' /proc/self/mounts | grep -o allow_other || true
        unionfs umount merged
    """
    assert as_user(tmp_path, script) == Ended(0, f"{word}\n" if word else "", "")


@pytest.mark.parametrize("backend", [DIRECT, KERNEL], ids=lambda backend: backend.name)
def test_unions_of_other_tests_are_not_held(tmp_path: Path, backend: Backend) -> None:
    lowers, merged, scratch = [tmp_path / "lower0", tmp_path / "lower1"], tmp_path / "merged", tmp_path / "scratch"
    for directory in (*lowers, merged, scratch):
        directory.mkdir()
    backend.mount(lowers, None, None, merged)
    try:
        show = ["grep", os.fspath(merged), "/proc/self/mountinfo"]
        assert as_user(scratch, f"{' '.join(show)} || echo none").stdout == "none\n"
        in_user_namespace = [sys.executable, "-m", "tests.rootless.user_namespace", *show]
        assert run(in_user_namespace, status=1, cwd=ROOT).stdout == ""
        assert is_mounted(merged)
    finally:
        backend.umount(merged)
