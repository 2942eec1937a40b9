"""The thin part of the programs: help, completion, output, and how they end; nothing is mounted."""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.cli.conftest import TIMEOUT, Programs
from tests.programs import run as run_program
from unionfs.cli.fuse_unionfs import fuse_unionfs
from unionfs.cli.main import unionfs
from unionfs.cli.mount_unionfs import mount_unionfs
from unionfs.cli.output import print_table

COMMANDS = unionfs.list_commands(click.Context(unionfs))


def run(*arguments: str, program: click.Command = unionfs) -> Result:
    return CliRunner().invoke(program, arguments, prog_name=str(program.name).replace("_", "-"))


def test_the_commands_are_those_of_the_documentation() -> None:
    of_mounts = "mount umount ls status metrics explain layers refresh restart snapshot check"
    of_the_store = "image layer volume plugin run ps exec logs stop kill rm diff commit export gc"
    assert " ".join(COMMANDS) == f"{of_mounts} {of_the_store} doctor bench completion"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example:\n    unionfs {command}" in result.output


@pytest.mark.parametrize("program", [unionfs, fuse_unionfs, mount_unionfs])
def test_help_of_each_program_has_an_example(program: click.Command) -> None:
    result = run("--help", program=program)
    assert result.exit_code == 0
    assert "Example:\n" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_the_overview_shows_each_command_with_a_whole_sentence(command: str) -> None:
    (line,) = [line for line in run("--help").output.splitlines() if line.startswith(f"  {command} ")]
    assert line.endswith(".")
    assert not line.endswith("...")


def test_versions() -> None:
    version = importlib.metadata.version("unionfs")
    assert run("--version").output == f"unionfs {version}\n"
    # podman shows this line in "podman info".
    assert run("--version", program=fuse_unionfs).output == f"fuse-unionfs: version {version}\n"
    assert run("-V", program=fuse_unionfs).output == f"fuse-unionfs: version {version}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_of_each_shell(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_UNIONFS_COMPLETE" in result.output


def test_bash_completes_commands(programs: Programs) -> None:
    environment = {**programs.environment, "COMP_WORDS": "unionfs um", "COMP_CWORD": "1", "_UNIONFS_COMPLETE": "bash_complete"}
    assert run_program(["unionfs"], environment=environment).stdout == "plain,umount\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["frobnicate"], "unionfs: No such command 'frobnicate'; unionfs --help tells how"),
        (["mount"], "unionfs: Missing argument 'MERGED'; unionfs mount --help tells how"),
        (["mount", "-l", "/", "/mnt", "/mnt"], "unionfs: Got unexpected extra argument (/mnt); unionfs mount --help tells how"),
        (["mount", "--frob", "/mnt"], "unionfs: No such option '--frob'; unionfs mount --help tells how"),
        (
            ["mount", "--transport", "tcp", "/mnt"],
            "unionfs: Invalid value for '--transport': 'tcp' is not one of 'direct', 'pyfuse3'; unionfs mount --help tells how",
        ),
        (["umount"], "unionfs: Missing argument 'PATH...'; unionfs umount --help tells how"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], line: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    # click 8.1 writes some of these a little differently.
    assert result.stderr.replace(": --frob;", " '--frob';").replace("MERGED...", "PATH...") == f"{line}\n"


def test_no_command_at_all_shows_the_help_and_is_wrong_usage() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_mount_options_are_refused_before_anything_else() -> None:
    result = run("mount", "-l", "/missing", "-o", "noexe", "/missing")
    assert result.exit_code == 2
    assert result.stderr == "unionfs: noexe: unknown option; did you mean noexec?\n"


@pytest.mark.parametrize("command", [["umount"], ["status"], ["metrics"], ["explain"]])
def test_commands_on_what_is_not_ours(command: list[str], tmp_path: Path, programs: Programs) -> None:
    line = programs.refusal(*command, tmp_path)
    assert line.startswith(f"{tmp_path}: not ")
    assert line.endswith("unionfs ls shows where they are mounted" if command == ["explain"] else "unionfs ls shows what is")


@pytest.mark.parametrize("command", [["umount"], ["status"], ["metrics"]])
def test_commands_on_a_mount_of_another_kind(command: list[str], programs: Programs) -> None:
    assert programs.refusal(*command, "/proc") == "/proc: not a union, but a mount of type proc; unionfs ls shows the unions"


def test_nothing_mounted_is_an_empty_list(programs: Programs) -> None:
    assert json.loads(programs.unionfs("ls", "--json")) == []
    assert programs.unionfs("ls").splitlines() == ["MERGED  STATE  PID  RESTARTS  TRANSPORT  LOWERS  UPPER  TO CLEAN UP"]


def test_a_reader_that_has_enough_is_no_error_to_talk_about(programs: Programs) -> None:
    # The pipe is closed before anything is written to it.
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait(TIMEOUT)
        assert programs.run("unionfs", "ls", "--json", stdout=reader.stdin) == (1, "", "")


def test_output_that_cannot_be_written_is_one_line_and_status_1(programs: Programs) -> None:
    with open("/dev/full", "w") as full:
        ended = programs.run("unionfs", "ls", stdout=full)
    assert (ended.status, ended.stderr.count("\n")) == (1, 1)
    assert "No space left on device" in ended.stderr


def test_what_was_printed_without_a_flush_is_written_when_the_program_ends(programs: Programs) -> None:
    program = (
        "import sys, click\n"
        "from unionfs.cli.program import Program\n"
        "@click.command(cls=Program)\n"
        "def command():\n"
        "    sys.stdout.write('text')\n"
        "    return 3\n"
        "command()\n"
    )
    environment = {name: value for name, value in programs.environment.items() if name != "PYTHONUNBUFFERED"}
    assert run_program([sys.executable, "-c", program], status=3, environment=environment) == (3, "text", "")


def test_doctor_reports_every_probe(programs: Programs, tmp_path: Path) -> None:
    ended = programs.run("unionfs", "doctor", "--json", tmp_path)
    findings = json.loads(ended.stdout)
    assert {"name", "ok", "detail", "remedy"} == set(findings[0])
    assert ended.status == (0 if all(finding["ok"] for finding in findings) else 1)
    shown = programs.run("unionfs", "doctor", tmp_path).stdout
    for finding in findings:
        assert finding["name"] in shown


def test_doctor_shows_the_remedy_of_a_failed_probe_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from unionfs.mounter import probes
    from unionfs.mounter.finding import Finding, Probe

    good = Probe("good", lambda: Finding(True, "works"))
    bad = Probe("bad", lambda: Finding(False, "does not", "do something"))
    monkeypatch.setattr(probes, "probes", lambda _directory: [good, bad])
    result = run("doctor", "--root", "/nowhere")
    assert result.exit_code == 1
    assert result.stdout == "ok      good: works\nFAILED  bad: does not\n        do something\n"


@pytest.mark.parametrize("module", ["trio", "rich", "pyfuse3", "unionfs.overlay.union"])
@pytest.mark.parametrize("command", [["--help"], ["ls"], ["ls", "--json"], ["completion", "bash"]])
def test_commands_that_serve_nothing_load_no_heavy_module(module: str, command: list[str], programs: Programs) -> None:
    program = f"import sys, unionfs.cli.main as main\ntry: main.unionfs({command!r}, 'unionfs')\nfinally: print(*sys.modules)"
    loaded = run_program([sys.executable, "-c", program], environment=programs.environment).stdout.splitlines()[-1].split()
    assert "click" in loaded
    assert module not in loaded


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_on_a_terminal_takes_square_brackets_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "dumb")
    print_table(["name", "value"], [["[red]a", 1]])
    assert [line.split() for line in terminal.getvalue().splitlines()] == [["name", "value"], ["[red]a", "1"]]
