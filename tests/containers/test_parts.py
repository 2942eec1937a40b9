"""The parts that need no container: options, users, logs, frames, configs, runtimes."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from unionfs.containers.bundle import runtime_config
from unionfs.containers.container_log import LogWriter, read_log
from unionfs.containers.frames import Decoder, Frame, Kind, encode
from unionfs.containers.names import check_name, made_up_name
from unionfs.containers.options import RunOptions, parse_environment_file, parse_labels, parse_signal, parse_size
from unionfs.containers.process import merged_environment, process_config
from unionfs.containers.runtime import find_runtime
from unionfs.containers.status import NAME, Status, read_status, write_status
from unionfs.containers.users import User, find_user
from unionfs.containers.volumes import ReadyMounts
from unionfs.store.errors import CorruptError, StoreError

ROOT = User(0, 0, (0,), "/root")


# -- options ------------------------------------------------------------


@pytest.mark.parametrize(("text", "size"), [("4096", 4096), ("1k", 1024), ("10G", 10 << 30), ("2MiB", 2 << 20), ("3tb", 3 << 40)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "G", "10X"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["TERM", "SIGTERM", "sigterm", "15"])
def test_signals_by_name_and_number(text: str) -> None:
    assert parse_signal(text) is signal.SIGTERM


def test_lines_of_an_environment_file() -> None:
    assert parse_environment_file("# no\n\nA=1\n  B=two words \nC\n") == ("A=1", "B=two words ", "C")


def test_labels() -> None:
    assert parse_labels(["a=1", "b", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}


def test_options_come_back_from_the_database() -> None:
    options = RunOptions("box", ("a", "b"), environment=("A=1",), labels={"x": "y"}, size=5)
    assert RunOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize("name", ["", "a", "-ab", "a/b", "a b", ".ab", "x" * 129])
def test_names_that_docker_refuses_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="not a name of a container"):
        check_name(name)


def test_made_up_names_are_names() -> None:
    assert check_name(made_up_name())


# -- users ------------------------------------------------------------


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nalice:x:1001:\nstaff:x:50:bob,alice\n")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "user"),
    [
        ("", User(0, 0, (0,), "/root")),
        ("alice", User(1000, 1001, (50, 1001), "/home/alice")),
        ("1000", User(1000, 1001, (50, 1001), "/home/alice")),
        ("alice:staff", User(1000, 50, (), "/home/alice")),
        ("alice:7", User(1000, 7, (), "/home/alice")),
        ("4711", User(4711, 0, (0,), "/")),
    ],
)
def test_users_are_those_of_the_image(rootfs: Path, given: str, user: User) -> None:
    assert find_user(rootfs, given) == user


@pytest.mark.parametrize("given", ["bob", "alice:nobody", "99999999999"])
def test_an_unknown_user_or_group_is_refused(rootfs: Path, given: str) -> None:
    with pytest.raises(StoreError, match="no such"):
        find_user(rootfs, given)


def test_a_link_in_the_image_does_not_lead_to_the_users_of_the_host(rootfs: Path) -> None:
    (rootfs / "etc/passwd").rename(rootfs / "real")
    (rootfs / "etc/passwd").symlink_to("/real")
    assert find_user(rootfs, "alice").uid == 1000
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("../../../../../../etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        find_user(rootfs, "daemon")


def test_a_fifo_in_the_place_of_the_users_holds_nobody_up(rootfs: Path) -> None:
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    assert find_user(rootfs, "5").uid == 5


# -- log, status, frames ------------------------------------------------------------


def test_a_log_gives_back_what_was_written_byte_for_byte(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    data = b"line\nbytes \xff\xfe\n" + b"x" * 50_000 + b"\nno end"
    for start in range(0, len(data), 777):
        log.write("stdout", data[start : start + 777])
    log.write("stderr", b"other\n")
    log.close()
    entries = list(read_log(tmp_path))
    assert b"".join(entry.data for entry in entries if entry.stream == "stdout") == data
    assert [entry.data for entry in entries if entry.stream == "stderr"] == [b"other\n"]


def test_a_log_that_is_followed_ends_when_the_container_has(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.write("stdout", b"first\n")
    answers = iter([False, True])

    def is_over() -> bool:
        log.write("stdout", b"more\n")
        return next(answers)

    assert [entry.data for entry in read_log(tmp_path, is_over=is_over)] == [b"first\n", b"more\n", b"more\n"]
    log.close()


def test_a_status_is_replaced_as_a_whole(tmp_path: Path) -> None:
    assert read_status(tmp_path) == Status()
    status = Status("exited", 1, 2, 3.0, 4.0, 5, "why")
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status
    assert os.listdir(tmp_path) == [NAME]


def test_a_damaged_status_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("{")
    with pytest.raises(CorruptError, match="no status of a container"):
        read_status(tmp_path)


def test_frames_come_through_one_byte_at_a_time() -> None:
    frames = [Frame(Kind.OUTPUT, b"x" * 300), Frame(Kind.END_OF_INPUT, b""), Frame(Kind.ENDED, b"7")]
    stream = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder()
    assert [frame for byte in stream for frame in decoder.feed(bytes([byte]))] == frames


# -- config and runtime ------------------------------------------------------------


def test_only_root_has_capabilities_and_nobody_more_open_files_than_we() -> None:
    as_root = process_config(["x"], environment=[], working_dir="/", user=ROOT, terminal=False)
    as_user = process_config(["x"], environment=[], working_dir="/", user=ROOT._replace(uid=5), terminal=False)
    assert as_root["capabilities"]["effective"] == as_root["capabilities"]["bounding"]
    assert "CAP_SYS_ADMIN" not in as_root["capabilities"]["bounding"]
    assert as_user["capabilities"]["effective"] == []
    (limit,) = as_root["rlimits"]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limit["hard"] <= (hard if hard != resource.RLIM_INFINITY else 1 << 20)


@pytest.mark.parametrize("network", ["host", "none"])
def test_a_container_has_a_network_namespace_only_without_network(network: str) -> None:
    process = process_config(["x"], environment=[], working_dir="/", user=ROOT, terminal=False)
    config = runtime_config(
        process=process,
        container_id="1",
        hostname="h",
        network="none" if network == "none" else "host",
        read_only=True,
        host_files={"/etc/hosts": Path("/hosts")},
        ready=ReadyMounts((), None),
    )
    assert ({"type": "network"} in config["linux"]["namespaces"]) == (network == "none")
    assert config["root"] == {"path": "rootfs", "readonly": True}
    assert [mount["source"] for mount in config["mounts"] if mount["type"] == "bind"] == ["/hosts"]


def test_later_variables_hide_earlier_ones() -> None:
    defaults = {"B": "default", "C": "default"}
    merged = merged_environment(["A=image", "B=image"], ["A=given", "OURS", "ABSENT"], ours={"OURS": "1"}, defaults=defaults)
    assert sorted(merged) == ["A=given", "B=image", "C=default", "OURS=1"]


def test_a_runtime_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "runc"
    old.write_text("#!/bin/sh\necho runc version 0.1.1\n")
    old.chmod(0o755)
    with pytest.raises(StoreError, match=r"version 0\.1 is too old; install runc 1\.0 or later"):
        find_runtime(str(old))
