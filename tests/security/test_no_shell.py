"""Nothing that a user, an image or a request names reaches a shell, or is taken for an option of a program that we start."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.layers import build
from tests.cli.conftest import Programs
from tests.containers.engine import Engine
from tests.programs import Ended
from unionfs.fuse import fusermount
from unionfs.fuse.mount_error import MountError
from unionfs.fuse.mounting import MountOptions, _fusermount_options
from unionfs.mounter.errors import MounterError
from unionfs.store.errors import StoreError
from unionfs.store.pull import pull_image, source_of
from unionfs.store.reference import parse_reference
from unionfs.store.store import Store
from unionfs.volumes.drivers.plugin.discovery import PluginDirectories, find_plugin
from unionfs.volumes.names import check_name

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("unionfs", "cli") for path in (ROOT / folder).rglob("*.py"))

EVIL = [
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "a\ntouch pwned",
    "-o",
    "--help",
    "a b",
    "'\"",
    "a|b",
    "&",
    "*",
    "a\\",
]


# -- the sources ------------------------------------------------------------------------------------------------------------

_SHELLS = {("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"), ("pty", "spawn")}
_CREATE_SHELL = {"create_subprocess_shell"}
_CODE = {"eval", "exec", "compile", "__import__"}
_STARTING = {"run", "Popen", "call", "check_call", "check_output", "execvp", "posix_spawn", "posix_spawnp"}
_SHELL_PROGRAMS = {"sh", "bash", "dash", "env", "xargs", "ssh"}
_UNSAFE_LOADS = {("pickle", "load"), ("pickle", "loads"), ("marshal", "loads"), ("shelve", "open"), ("yaml", "load")}


def shell_uses(tree: ast.AST) -> Iterator[str]:
    """Calls that hand words to a shell, or data to an interpreter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            yield f"line {node.value.lineno}: shell="
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            if (called.value.id, called.attr) in _SHELLS | _UNSAFE_LOADS or called.attr in _CREATE_SHELL:
                yield f"line {node.lineno}: {called.value.id}.{called.attr}"
        elif isinstance(called, ast.Name) and called.id in _CODE:
            yield f"line {node.lineno}: {called.id}"
        words = node.args[0] if node.args else None
        if isinstance(called, ast.Attribute) and called.attr in _STARTING and isinstance(words, ast.List) and _is_shell(words):
            yield f"line {node.lineno}: a shell is started"


def _is_shell(words: ast.List) -> bool:
    first = words.elts[0] if words.elts else None
    return isinstance(first, ast.Constant) and str(first.value).rpartition("/")[2] in _SHELL_PROGRAMS


_DECLARED = {"unionfs/mounter/held.py: pickle.load"}
"""What one of our programs hands to the next in its place, in a file without a name that nobody else can open."""


def test_no_source_starts_a_shell() -> None:
    assert len(SOURCES) > 300
    uses = [(str(path.relative_to(ROOT)), use) for path in SOURCES for use in shell_uses(ast.parse(path.read_text()))]
    assert {f"{path}: {use.partition(': ')[2]}" for path, use in uses} == _DECLARED


@pytest.mark.parametrize(
    "text",
    [
        "subprocess.run(x, shell=True)",
        "os.system(x)",
        "os.popen(x)",
        "subprocess.run(['sh', '-c', x])",
        "subprocess.run(['/bin/bash', '-c', x])",
        "eval(x)",
        "pickle.loads(x)",
    ],
)
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert list(shell_uses(ast.parse(text)))


# -- names in programs' arguments -------------------------------------------------------------------------------------------


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of our own instead of those that are started: they write down their arguments, one JSON list a line."""
    bin_, log = tmp_path / "bin", tmp_path / "called"
    bin_.mkdir()
    source = f"""#!{sys.executable}
import json, sys
with open({str(log)!r}, "a") as log:
    log.write(json.dumps(sys.argv) + "\\n")
sys.exit(1)
"""
    for name in ("skopeo", "fusermount3", "newuidmap", "newgidmap"):
        (bin_ / name).write_text(source)
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    return log


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("name", EVIL)
def test_reference_reaches_skopeo_as_one_word_that_is_no_option(tmp_path: Path, spy: Path, name: str) -> None:
    with Store(tmp_path / "store") as store, pytest.raises(StoreError, match="skopeo copy failed"):
        pull_image(store, name, parse_reference("box"))
    (words,) = calls(spy)
    assert words[1:-2] == ["copy", "--quiet"]
    assert words[-2] == f"docker://{name}" == source_of(name)
    assert not (Path.cwd() / "pwned").exists()


@pytest.mark.parametrize("name", EVIL)
def test_mount_point_reaches_fusermount_as_one_word_behind_the_options(spy: Path, name: str) -> None:
    options = _fusermount_options(MountOptions(source=name, subtype="unionfs"))
    with pytest.raises(MountError):
        fusermount.unmount(Path(name), lazy=True)
    with pytest.raises(MountError):
        fusermount.mount(Path(name), options)
    unmounting, mounting = calls(spy)
    assert unmounting[1:] == ["-u", "-z", "--", name]
    assert mounting[1] == "-o"
    assert mounting[3:] == ["--", name]
    # A comma in the source would begin another option.
    assert f"fsname={name}".replace("\\", "\\\\") in mounting[2]


def test_source_with_commas_adds_no_option() -> None:
    assert _fusermount_options(MountOptions(source="a,allow_other,dev", default_permissions=False)).split("subtype")[0] == (
        "fsname=a\\,allow_other\\,dev,"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_directories_with_names_of_commands_are_mounted_as_they_are(tmp_path: Path, programs: Programs) -> None:
    top = tmp_path / "$(touch pwned); `touch pwned`"
    build(top / "-l;$(touch pwned)", {"f": b"lower"})
    for each in ("-u", "--help", "merged\nx"):
        (top / each).mkdir()
    # Relative, so that they begin as they are called.
    words = ["-l", "./-l;$(touch pwned)", "--upper=-u", "-w", "--help", "--", "merged\nx"]
    assert programs.run("unionfs", "mount", *words, cwd=top) == Ended(0, "", "")
    assert (top / "merged\nx/f").read_bytes() == b"lower"
    assert programs.run("unionfs", "umount", "--", "merged\nx", cwd=top) == Ended(0, "", "")
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("name", EVIL)
def test_name_of_an_image_or_a_volume_is_a_name(name: str) -> None:
    with pytest.raises(StoreError, match="not a name of an image"):
        parse_reference(name)
    with pytest.raises(MounterError, match=r"."):
        check_name(name)


@pytest.mark.parametrize("name", [*EVIL, "../../run/docker/plugins/x", "/etc", "..", ""])
def test_name_of_a_plugin_is_no_path(name: str) -> None:
    with pytest.raises(MounterError, match="not a name of a volume driver"):
        find_plugin(name, PluginDirectories())


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    running = Programs(tmp_path / "run")
    yield running
    running.end_all()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("runc"), reason="runs containers")
def test_words_of_a_container_reach_its_process_as_they_are(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "store")
    variable = "$(touch /pwned);`id`"
    script = 'printf "%s|" "$@" "$X"; ls /'
    try:
        engine.add_image("box")
        words = ["run", "--rm", "-e", f"X={variable}", "--label", "a=$(touch pwned)", "box", "/bin/sh", "-c", script, "-", *EVIL]
        said = engine.ok(*words)
    finally:
        engine.end_all()
    assert said.startswith("".join(f"{each}|" for each in [*EVIL, variable]))
    assert "pwned" not in said.rpartition("|")[2]
    assert not list(tmp_path.rglob("pwned"))
    assert "pwned" not in os.listdir("/")
