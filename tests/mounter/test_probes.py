from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.linux.mount import MS_RDONLY, mount, umount
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.fuse_probes import find_fusermount, find_user_allow_other
from unionfs.mounter.probes import Finding, probes
from unionfs.mounter.process_probes import ENOUGH_OPEN_FILES, compare_mount_namespace
from unionfs.mounter.trial_mount import Trial, try_mount

TIMEOUT = 60


def found(directory: Path) -> dict[str, Finding]:
    """The findings of all probes, by name without the directory."""
    return {probe.name.removesuffix(f" in {directory}"): probe.run() for probe in probes(directory)}


def found_in_child(code: str, directory: Path, prefix: tuple[str, ...] = ()) -> dict[str, Finding]:
    """The same of a process of its own, which runs ``code`` first."""
    script = f"""{code}
import json, sys
from pathlib import Path
from tests.mounter.test_probes import found
print(json.dumps(found(Path(sys.argv[1]))))"""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script, directory], check=True, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT
    )
    return {name: Finding(*finding) for name, finding in json.loads(done.stdout).items()}


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A filesystem of its own; the parameter is its type and flags."""
    fstype, flags = request.param
    mount(b"probe", bytes(tmp_path), fstype, flags, b"")
    yield tmp_path
    umount(bytes(tmp_path), 0)


def test_each_failing_probe_has_a_remedy_and_no_other(tmp_path: Path) -> None:
    findings = [*found(tmp_path).items(), *found(tmp_path / "missing").items()]
    assert [name for name, finding in findings if finding.ok == bool(finding.remedy)] == []
    assert [name for name, finding in findings if not finding.detail or "\n" in finding.detail] == []


def test_root_can_mount(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert [name for name in ("/dev/fuse", "mounting", "FUSE protocol", "user_allow_other") if not findings[name].ok] == []
    assert findings["mounting"].detail == "a trial mount by mount(2) worked"
    assert findings["FUSE protocol"].detail.startswith("7.")


def test_probes_leave_nothing_behind(tmp_path: Path) -> None:
    def fuse_mounts() -> set[tuple[int, Path]]:
        return {(mount.id, mount.mount_point) for mount in read_mountinfo() if "unionfs-doctor-" in str(mount.mount_point)}

    found(tmp_path)
    assert os.listdir(tmp_path) == []
    assert fuse_mounts() == set()


@pytest.mark.parametrize("mounted", [(b"ramfs", 0)], indirect=True)
def test_what_a_filesystem_lacks_is_found(mounted: Path) -> None:
    findings = found(mounted)
    on_directory = ("trusted.* xattrs", "user.* xattrs", "whiteouts", "O_TMPFILE", "RENAME_WHITEOUT")
    assert {name for name in on_directory if findings[name].ok} == {"whiteouts", "O_TMPFILE"}
    assert findings["trusted.* xattrs"].detail == "Operation not supported"


@pytest.mark.parametrize("mounted", [(b"tmpfs", 0)], indirect=True)
def test_tmpfs_has_all_that_an_upper_needs(mounted: Path) -> None:
    findings = found(mounted)
    needed = ("trusted.* xattrs", "whiteouts", "O_TMPFILE", "RENAME_EXCHANGE", "RENAME_WHITEOUT")
    assert [name for name in needed if not findings[name].ok] == []


@pytest.mark.parametrize("mounted", [(b"tmpfs", MS_RDONLY)], indirect=True)
def test_directory_that_cannot_be_written_to_is_named(mounted: Path) -> None:
    assert found(mounted)["whiteouts"] == Finding(
        False, f"nothing can be made in {mounted}: Read-only file system", "name a directory that you may write to"
    )


def test_process_without_rights_fails_at_what_needs_them(tmp_path: Path) -> None:
    findings = found_in_child("", tmp_path, ("setpriv", "--bounding-set", "-sys_admin,-mknod"))
    names = ("mounting", "FUSE protocol", "passthrough", "trusted.* xattrs", "user.* xattrs", "O_TMPFILE")
    assert {name for name in names if findings[name].ok} == {"user.* xattrs", "O_TMPFILE"}


# -- the trial mount ------------------------------------------------------------------------------------------------------


def test_file_on_an_overlay_is_no_backing_file(tmp_path: Path) -> None:
    for name in ("a", "b", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path / 'a'},upperdir={tmp_path / 'b'},workdir={tmp_path / 'work'}"
    mount(b"overlay", bytes(tmp_path / "merged"), b"overlay", 0, options.encode())
    try:
        trial = try_mount(tmp_path / "merged")
        finding = found(tmp_path / "merged")["passthrough"]
    finally:
        umount(bytes(tmp_path / "merged"), 0)
    assert trial.mount_trouble == trial.protocol_trouble == ""
    assert trial.passthrough_trouble
    assert not finding.ok


def test_trial_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 1000\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    monkeypatch.setattr("unionfs.mounter.trial_mount.TIMEOUT", 0.1)
    assert try_mount(tmp_path) == Trial(mount_trouble="no end after 0.1 s")


def test_trial_that_crashes_tells_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho first; echo last words >&2; exit 1\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    assert try_mount(tmp_path) == Trial(mount_trouble="last words")


# -- single findings ------------------------------------------------------------------------------------------------------


def test_fusermount3_must_be_there_and_set_user_id_root(tmp_path: Path) -> None:
    program = tmp_path / "fusermount3"
    program.touch(mode=0o755)
    assert not find_fusermount(None).ok
    assert not find_fusermount(str(program)).ok
    program.chmod(0o4755)
    assert find_fusermount(str(program)).ok
    os.chown(program, 1234, -1)
    program.chmod(0o4755)
    assert find_fusermount(str(program)) == Finding(
        False, f"{program} is not set-user-id root; only root can mount", f"chown root {program} && chmod u+s {program}"
    )


@pytest.mark.parametrize(
    ("text", "is_set"),
    [(None, False), ("", False), ("#user_allow_other\n", False), ("mount_max = 9\n user_allow_other \n", True)],
)
def test_user_allow_other_counts_for_users_only(tmp_path: Path, text: str | None, is_set: bool) -> None:
    conf = tmp_path / "fuse.conf"
    if text is not None:
        conf.write_text(text)
    assert find_user_allow_other(conf, is_root=False).ok == is_set
    assert find_user_allow_other(conf, is_root=True).ok


def test_low_limit_of_open_files_is_found(tmp_path: Path) -> None:
    few = ENOUGH_OPEN_FILES - 1
    assert not found_in_child("", tmp_path, ("prlimit", f"--nofile={few}:{few}"))["open files"].ok
    enough = ENOUGH_OPEN_FILES
    assert found_in_child("", tmp_path, ("prlimit", f"--nofile={enough}:{enough}"))["open files"].ok


def test_single_cpu_is_found(tmp_path: Path) -> None:
    pinned = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert not found_in_child(pinned, tmp_path)["CPUs"].ok


@pytest.mark.parametrize(("prefix", "shared"), [([], True), (["unshare", "--mount"], False)])
def test_mount_namespace_is_compared(prefix: list[str], shared: bool) -> None:
    with subprocess.Popen([*prefix, "sh", "-c", "echo ready; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert compare_mount_namespace(other.pid).ok == shared
        other.communicate(timeout=TIMEOUT)
