"""The example commands in the documentation of images and containers are run, in their order, as they stand there."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.containers.engine import Engine
from tests.docs.code_blocks import DOCS, blocks, inline_commands, script
from tests.mounts import UNIONFS
from tests.programs import output
from unionfs.cli.main import unionfs

IMAGES, CONTAINERS, VOLUMES = DOCS / "images.md", DOCS / "containers.md", DOCS / "volumes.md"
PAGES = [IMAGES, CONTAINERS, VOLUMES]

OF_NO_COMMANDS = {
    "images.md": {"store.db            SQLite: layers, images, names, snapshots, containers"},
    "containers.md": set(),
    "volumes.md": {"from unionfs.store.store import open_store"},
}
"""The first lines of blocks that are no shell."""

LIMIT = 80
"""Seconds for a page; what takes longer hangs."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    if os.geteuid() != 0 or shutil.which("runc") is None or not Path("/bin/busybox").exists():
        pytest.skip("containers need root, runc and busybox-static")
    running = Engine(tmp_path / "store")
    yield running
    running.end_all()


def run_examples(engine: Engine, page: Path, directory: Path) -> str:
    """Run the script of a page on a terminal, where a shell that asks for a command is ended; what was shown, line by line
    behind the command."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (25, 200))
    environment = engine.environment | {"PATH": f"{Path(UNIONFS).parent}:{os.environ['PATH']}", "TERM": "dumb"}
    (directory / "examples").write_text(script(page))
    prologue = "set -e -o pipefail; trap 'echo failed in line $LINENO' ERR; set -v; . ./examples"
    command = ["timeout", "--kill-after=5", str(LIMIT), "bash", "-c", prologue]
    with subprocess.Popen(
        command, env=environment, cwd=directory, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ) as process:
        shown = _read_and_leave_shells(master, process)
    os.close(slave)
    os.close(master)
    assert process.returncode == 0, shown
    return shown


def _read_and_leave_shells(master: int, process: subprocess.Popen[bytes]) -> str:
    shown = b""
    # The other side stays open here: what was written before its end can be read after it.
    while _is_readable(master) or process.poll() is None:
        if _is_readable(master):
            shown += os.read(master, 1 << 16)
            # With the question of busybox's shell where the cursor is.
            if shown.removesuffix(b"\x1b[6n").endswith(b" # "):
                os.write(master, b"exit\n")
    return shown.decode().replace("\r\n", "\n")


def _is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0.1)[0])


def after(shown: str, command: str) -> str:
    """What a command that stands in the page printed: its lines up to the next command."""
    _, found, rest = shown.partition(f"\n{command}")
    assert found, f"not shown: {command}"
    return rest.partition("\n")[2]


def test_examples_of_images_do_what_the_page_says(engine: Engine, tmp_path: Path) -> None:
    shown = run_examples(engine, IMAGES, tmp_path)
    assert "failed in line" not in shown
    digests = dict(re.findall(r"^(site/\S+): (sha256:\w+)$", shown, re.MULTILINE))
    assert (
        digests["site/again:latest"] == digests["site/base:1.0"] == digests["site/base:stable"] == digests["site/pulled:latest"]
    )
    assert (tmp_path / "base.tar").is_file()
    assert (tmp_path / "layout/oci-layout").is_file()
    # The page sets the root itself.
    assert (tmp_path / "store/store.db").is_file()


def test_examples_of_containers_do_what_the_page_says(engine: Engine, tmp_path: Path) -> None:
    shown = run_examples(engine, CONTAINERS, tmp_path)
    assert "failed in line" not in shown
    for command, expected in (
        ("unionfs run --rm box busybox echo hello", "hello\n"),
        ("echo text |", "text\n"),
        ("unionfs run --rm --read-only", "inside\n"),
    ):
        assert after(shown, command).startswith(expected), shown
    environment = after(shown, "unionfs run --rm -e NAME=value")
    assert "\nNAME=value\n" in f"\n{environment}"
    assert (tmp_path / "web.tar").is_file()
    # Cgroups may be those of another run of the tests, killed or at work.
    assert [left for left in engine.leftovers() if not left.startswith("/sys/fs/cgroup/")] == []


def test_examples_of_volumes_do_what_the_page_says(engine: Engine, tmp_path: Path) -> None:
    shown = run_examples(engine, VOLUMES, tmp_path)
    assert "failed in line" not in shown
    for command, expected in (
        ('unionfs run --rm -v "$PWD/home:/data" box', "hello\n"),
        ('unionfs run --rm -v "$PWD/home:/data:rslave"', "hello\n"),
        ("unionfs run --rm -v myvol:/app box sh -c 'cat", "default\n"),
        ("unionfs run --rm --mount source=myvol,target=/app,readonly", "changed\n"),
        ("unionfs run --rm --mount source=myvol,target=/part", "file\n"),
        ('unionfs run --rm --mount "target=/data,volume-driver=overlay', "hello\n"),
        ("cat home/note", "hello\n"),
    ):
        assert after(shown, command).startswith(expected), shown
    assert engine.leftovers() == []


def test_python_of_the_page_about_volumes_works(engine: Engine) -> None:
    (example,) = (block.text for block in blocks(VOLUMES) if block.language == "python")
    output([sys.executable, "-c", example], environment=engine.environment)
    assert (engine.root / "volumes/data/_data/file").is_file()


# -- nothing is left out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_code_is_run(page: Path) -> None:
    others = {block.text.splitlines()[0] for block in blocks(page) if block.language != "sh"}
    assert others == OF_NO_COMMANDS[page.name]
    assert any(block.language == "sh" for block in blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_script_has_every_line_of_the_shell_blocks_at_its_place(page: Path) -> None:
    lines, text = script(page).splitlines(), page.read_text().splitlines()
    taken = [number for number, line in enumerate(lines) if line]
    assert all(lines[number] == text[number] for number in taken)
    assert len(taken) == sum(bool(line) for block in blocks(page) if block.language == "sh" for line in block.text.splitlines())


# -- commands in running text -----------------------------------------------------------------------------------------------


def unknown_words(text: str) -> list[str]:
    """What of a command line is neither a command nor an option of it."""
    command, *rest = words = re.findall(r"[^\s\[\]|]+", text.removeprefix("unionfs "))
    found: click.Command | None = unionfs.get_command(click.Context(unionfs), command)
    if found is None:
        return words[:1]
    if isinstance(found, click.Group) and rest:
        found = found.commands.get(rest[0])
        if found is None:
            return rest[:1]
    options = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    return [word for word in rest if word.startswith("-") and word.partition("=")[0] not in options]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_running_text_exist_with_their_options(page: Path) -> None:
    assert {text: unknown_words(text) for text in inline_commands(page) if unknown_words(text)} == {}


@pytest.mark.parametrize("text", ["unionfs nothing", "unionfs image burn X", "unionfs image rm --gently X"])
def test_command_that_does_not_exist_is_found(text: str) -> None:
    assert unknown_words(text) != []


def test_table_of_images_names_every_subcommand_and_option() -> None:
    group = unionfs.get_command(click.Context(unionfs), "image")
    assert isinstance(group, click.Group)
    text = IMAGES.read_text()
    for name, command in group.commands.items():
        assert f"`image {name}" in text or f"unionfs image {name} " in text, name
        for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
            assert any(flag in text for flag in option.opts), f"{name} {option.opts}"
