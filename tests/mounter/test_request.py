"""From options to a complete request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.mounter.errors import OptionError
from unionfs.mounter.options import Dialect, parse_options
from unionfs.mounter.request import MountRequest, build_request

MOUNTPOINT = Path("/mnt/merged")
A, B, U, W = Path("/a"), Path("/b"), Path("/u"), Path("/w")


def build(options: str, dialect: Dialect = Dialect.UNIONFS) -> MountRequest:
    return build_request(parse_options([options], dialect), MOUNTPOINT, dialect=dialect)


def test_directories_beside_the_options() -> None:
    request = build_request(parse_options([]), MOUNTPOINT, lowers=[A, B], upper=U, work=W)
    assert (request.lowers, request.upper, request.work) == ((A, B), U, W)
    assert not request.read_only


def test_without_an_upper_the_union_is_read_only() -> None:
    assert build("lowerdir=/a").read_only


def test_no_lower_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^lowerdir: no lower layer given; "):
        build("upperdir=/u")


def test_work_without_upper_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^workdir: given without an upper; "):
        build("lowerdir=/a,workdir=/w")


@pytest.mark.parametrize(
    ("options", "directories"),
    [
        ("lowerdir=/a", {"lowers": [B]}),
        ("lowerdir=/a,upperdir=/u", {"upper": U}),
        ("lowerdir=/a,upperdir=/u,workdir=/w", {"work": W}),
    ],
)
def test_a_directory_given_in_both_ways_is_refused(options: str, directories: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="given both as"):
        build_request(parse_options([options]), MOUNTPOINT, **directories)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        "upperdir=/u,transport=pyfuse3,data_path=passthrough",
        "allow_other,allow_root",
        "upperdir=/u,volatile,fsync=1",
        "upperdir=/u,fsync=strict,volatile",
        "rw",
    ],
)
def test_contradictions_between_options_are_refused(options: str) -> None:
    with pytest.raises(OptionError, match=r"contradicts|not possible with"):
        build(f"lowerdir=/a,{options}")


def test_rw_without_upper_passes_where_programs_write_it_always() -> None:
    assert build("rw,lowerdir=/a", Dialect.MOUNT_HELPER).read_only


@pytest.mark.parametrize(
    ("options", "fsync"),
    [
        ("", "auto"),
        (",volatile", "volatile"),
        (",fsync=volatile,volatile", "volatile"),
        (",fsync=0", "volatile"),
        (",fsync=1", "auto"),
        (",fsync=strict", "strict"),
    ],
)
def test_fsync_in_the_words_of_the_kernel_and_of_fuse_overlayfs(options: str, fsync: str) -> None:
    assert build(f"lowerdir=/a,upperdir=/u{options}").union.fsync == fsync


def test_volatile_mounts_are_marked_but_not_those_of_container_engines() -> None:
    options = "lowerdir=/a,upperdir=/u,volatile"
    assert build(options).marks_volatile
    assert build(options, Dialect.MOUNT_HELPER).marks_volatile
    assert not build(options, Dialect.FUSE_OVERLAYFS).marks_volatile
    assert not build("lowerdir=/a,upperdir=/u").marks_volatile


def test_root_gets_a_mount_for_all_with_suid_and_dev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    request = build("lowerdir=/a")
    assert request.allow_other
    assert request.flags == frozenset()


def test_users_get_a_mount_for_themselves_without_suid_and_dev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    request = build("lowerdir=/a")
    assert not request.allow_other
    assert request.flags == {"nosuid", "nodev"}


def test_flags_are_the_words_that_differ_from_the_default() -> None:
    assert build("lowerdir=/a,suid,nodev,noexec,atime,nodiratime,sync").flags == {"nodev", "noexec", "nodiratime", "sync"}


def test_fuse_overlayfs_defaults_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    request = build("lowerdir=/a", Dialect.FUSE_OVERLAYFS)
    assert request.allow_other
    assert request.flags == {"nodev", "noatime"}
    assert build("lowerdir=/a,dev,suid", Dialect.FUSE_OVERLAYFS).flags == {"noatime"}


def test_podmans_line_is_understood() -> None:
    line = "lowerdir=/g/l/A:/g/l/B,upperdir=/g/ID/diff,workdir=/g/ID/work,,volatile"
    request = build(line, Dialect.FUSE_OVERLAYFS)
    assert request.lowers == (Path("/g/l/A"), Path("/g/l/B"))
    assert (request.upper, request.work, request.union.fsync) == (Path("/g/ID/diff"), Path("/g/ID/work"), "volatile")
