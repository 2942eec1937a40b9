"""`unionfs run`: what a container sees, and what it ends with."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.containers.engine import Engine
from tests.programs import TIMEOUT, wait_until


def test_output_and_errors_come_apart(engine: Engine) -> None:
    ended = engine.run("run", "--rm", "box", "sh", "-c", "echo out; echo err >&2")
    assert ended == (0, "out\n", "err\n")


@pytest.mark.parametrize(
    ("command", "status"),
    [(["true"], 0), (["sh", "-c", "exit 7"], 7), (["nosuch"], 127), (["/plain"], 126), (["/etc"], 126)],
)
def test_exit_status_is_that_of_docker(engine: Engine, command: list[str], status: int) -> None:
    assert engine.run("run", "--rm", "box", *command).status == status
    assert engine.leftovers() == []


def test_a_killed_program_ends_with_128_and_its_signal(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "victim", "box", "sleep", "1000")
    engine.ok("kill", "victim")
    engine.ok("stop", "victim")
    assert engine.container("victim")["exit_code"] == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nosuch"], "nosuch: no such image"),
        (["--frob", "box"], "No such option"),
        (["--name", "a/b", "box"], "a/b: not a name of a container"),
        (["-u", "nobody-here", "box"], "nobody-here: no such user in the image's /etc/passwd"),
        (["--size", "much", "box"], "much: not a size"),
        (["--stop-signal", "NOPE", "box"], "NOPE: no such signal"),
        (["--runtime", "nosuch-runtime", "box"], "nosuch-runtime: no such program on PATH"),
        (["--runtime", "/bin/true", "box"], "/bin/true: neither runc nor crun"),
        (["-it", "box"], "standard input: is no terminal"),
        (["--entrypoint", "", "box"], "box: the image has no command"),
    ],
)
def test_what_cannot_be_run_is_one_line_status_125_and_leaves_nothing(engine: Engine, arguments: list[str], line: str) -> None:
    ended = engine.run("run", *arguments)
    assert (ended.status, ended.stdout) == (125, "")
    assert ended.stderr.startswith(f"unionfs: {line}")
    assert ended.stderr.count("\n") == 1
    assert [each["state"] for each in engine.containers()] == ([] if "-u" not in arguments else ["exited"])
    assert engine.mounts() == []


def test_a_taken_name_is_refused_by_name(engine: Engine) -> None:
    engine.ok("run", "--name", "taken", "box", "true")
    ended = engine.run("run", "--name", "taken", "box", "true")
    assert ended.status == 125
    assert ended.stderr.startswith("unionfs: taken: the name of container ")
    assert len(engine.containers()) == 1


def test_standard_input_comes_with_interactive_only(engine: Engine) -> None:
    data = os.urandom(300_000).hex().encode()
    assert engine.ok("run", "--rm", "-i", "box", "cat", stdin=data) == data.decode()
    assert engine.ok("run", "--rm", "box", "cat", stdin=data) == ""


def test_a_program_that_does_not_read_its_input_ends_all_the_same(engine: Engine) -> None:
    assert engine.ok("run", "--rm", "-i", "box", "head", "-c", "3", stdin=b"x" * 5_000_000) == "xxx"


def test_environment_of_image_file_and_options(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_text("# comment\n\nFILE=from file\nBOTH=file\nOURS\n")
    options = ["--env-file", file, "-e", "BOTH=option", "-e", "NOT_SET"]
    shown = engine.ok("run", "--rm", *options, "box", "env", OURS="handed on").splitlines()
    assert {"FROM=image", "FILE=from file", "BOTH=option", "OURS=handed on", "HOME=/root"} <= set(shown)
    assert not any(line.startswith("NOT_SET") for line in shown)


def test_user_by_name_has_the_groups_of_the_image(engine: Engine) -> None:
    script = "id; echo $HOME; readlink /proc/self/fd/1 >/dev/null; echo x >/dev/stderr"
    ended = engine.run("run", "--rm", "-u", "alice", "box", "sh", "-c", script)
    assert ended == (0, "uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)\n/home/alice\n", "x\n")


def test_working_directory_entrypoint_and_hostname(engine: Engine) -> None:
    assert engine.ok("run", "--rm", "-w", "/etc", "box", "pwd") == "/etc\n"
    assert engine.ok("run", "--rm", "--entrypoint", "echo", "box", "a", "b") == "a b\n"
    assert engine.ok("run", "--rm", "--hostname", "somewhere", "box", "hostname") == "somewhere\n"
    assert engine.ok("run", "--rm", "--hostname", "somewhere", "box", "cat", "/etc/hostname") == "somewhere\n"


def test_command_and_user_of_the_image_are_used(engine: Engine) -> None:
    engine.add_image("set", config={"Entrypoint": ["sh", "-c"], "Cmd": ["id -u; pwd"], "User": "1000", "WorkingDir": "/etc"})
    assert engine.ok("run", "--rm", "set") == "1000\n/etc\n"
    assert engine.ok("run", "--rm", "set", "echo other") == "other\n"


def test_without_network_there_is_loopback_alone(engine: Engine) -> None:
    assert engine.ok("run", "--rm", "--network", "none", "box", "ls", "/sys/class/net") == "lo\n"
    ours = sorted(os.listdir("/sys/class/net"))
    assert engine.ok("run", "--rm", "--network", "host", "box", "ls", "/sys/class/net").split() == ours


def test_read_only_root_filesystem(engine: Engine) -> None:
    ended = engine.run("run", "--rm", "--read-only", "box", "touch", "/new")
    assert (ended.status, "Read-only file system" in ended.stderr) == (1, True)


def test_a_container_sees_its_own_processes_only(engine: Engine) -> None:
    shown = engine.ok("run", "--rm", "box", "ps").splitlines()
    assert len(shown) == 2
    assert shown[1].split()[0] == "1"


def test_devices_and_masked_files(engine: Engine) -> None:
    script = "echo x >/dev/null; head -c 1 /dev/zero >/dev/shm/z; cat /proc/kcore; echo 1 >/proc/sys/kernel/panic; true"
    ended = engine.run("run", "--rm", "box", "sh", "-c", script)
    assert (ended.status, ended.stdout) == (0, "")
    assert "can't create /proc/sys/kernel/panic: Read-only file system" in ended.stderr


def test_signals_are_forwarded(engine: Engine) -> None:
    script = 'trap "echo got it; exit 9" INT; echo ready; while :; do sleep 0.05; done'
    with engine.started("run", "--rm", "box", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"got it\n"
        assert process.wait(TIMEOUT) == 9
    assert engine.leftovers() == []


def test_insisting_on_ctrl_c_kills_a_program_that_has_no_ear_for_it(engine: Engine) -> None:
    with engine.started("run", "--rm", "box", "sh", "-c", "echo ready; exec sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

        def insist() -> bool:
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        wait_until(insist)
        assert process.returncode == 137


def test_a_reader_that_goes_away_ends_the_container(engine: Engine) -> None:
    with engine.started("run", "--rm", "box", "sh", "-c", "trap exit TERM; while :; do echo y; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        process.wait(TIMEOUT)
    wait_until(lambda: engine.leftovers() == [])


@pytest.mark.skipif(shutil.which("crun") is None, reason="crun is not installed")
def test_crun_runs_containers_too(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "with-crun", "--runtime", "crun", "box", "sh", "-c", "echo up; exec sleep 1000")
    engine.wait_for_output("with-crun", "up")
    assert engine.ok("exec", "with-crun", "echo", "in") == "in\n"
    assert engine.run("exec", "with-crun", "nosuch").status == 127
    engine.ok("stop", "-t", "0", "with-crun")
    engine.ok("rm", "with-crun")
    assert engine.run("run", "--rm", "--runtime", "crun", "box", "nosuch").status == 127
    assert engine.run("run", "--rm", "--runtime", "crun", "box", "/plain").status == 126
    assert engine.leftovers() == []
