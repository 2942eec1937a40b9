"""The layout that unionfs/__init__.py describes: who may import whom, how large a file may be, what gets installed."""

from __future__ import annotations

import ast
import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "filesystem": set(),
    "linux": set(),
    "journal": {"linux"},
    "overlay": {"filesystem", "linux", "journal"},
    "fuse": {"filesystem", "linux", "journal"},
    "check": {"linux", "overlay"},
    "mounter": {"filesystem", "linux", "journal", "overlay", "fuse"},
    "bench": {"linux"},
    "store": {"linux", "mounter"},
    "rootless": {"linux", "mounter"},
    "volumes": {"linux", "mounter", "store"},
    "containers": {"linux", "mounter", "store", "volumes"},
    "adapters": {"linux", "mounter", "store", "volumes"},
    "cli": {"filesystem", "linux", "overlay", "fuse", "check", "mounter", "bench", "store", "rootless", "volumes"}
    | {"containers", "adapters"},
}
"""The parts of unionfs, and which others each may import besides the package itself (``__init__``, for its version)."""

MAX_LINES = 500


def package_of(path: Path) -> tuple[str, ...]:
    """The package a file's module is in, as it is installed: cli/ is unionfs.cli."""
    parts = path.relative_to(ROOT).parts
    return (("unionfs", *parts) if parts[0] == "cli" else parts)[:-1]


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def part_of(module: tuple[str, ...]) -> str:
    return module[1] if len(module) > 1 else "__init__"


def imported_modules(path: Path, text: str) -> Iterator[tuple[str, ...]]:
    """Absolute names of all modules of ours that a source imports, wherever in it the statement stands."""
    package = package_of(path)
    for node in ast.walk(ast.parse(text, str(path))):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            # `from unionfs import overlay` imports a part, `from unionfs.overlay import Union` does not import a module Union.
            names = [(*base, alias.name) if base == ("unionfs",) else base for alias in node.names]
        yield from (name for name in names if name[0] in ("unionfs", "cli"))


def forbidden_imports(path: Path, text: str) -> list[str]:
    package = package_of(path)
    own = package[1] if len(package) > 1 else path.stem
    wrong = []
    for module in imported_modules(path, text):
        part = part_of(module)
        is_part = part in ALLOWED and part != "__init__"  # anything else is a name that the package itself defines
        if module[0] == "cli" or (is_part and part != own and part not in ALLOWED[own]):
            wrong.append(f"{path.relative_to(ROOT)} imports {'.'.join(module)}")
    return wrong


def test_every_part_stands_in_the_table() -> None:
    parts = {path.parent.name for path in (ROOT / "unionfs").glob("*/__init__.py")} | {
        path.stem for path in (ROOT / "unionfs").glob("*.py")
    }
    assert parts | {"cli"} == set(ALLOWED)


def test_no_import_that_the_table_does_not_allow() -> None:
    assert [line for path in sources("unionfs", "cli") for line in forbidden_imports(path, path.read_text())] == []


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("unionfs/overlay/x.py", "from unionfs.fuse.session import Session"),
        ("unionfs/overlay/x.py", "import unionfs.mounter"),
        ("unionfs/overlay/x.py", "from ..fuse import session"),
        ("unionfs/overlay/x.py", "from .. import fuse"),
        ("unionfs/linux/x.py", "def late():\n    from unionfs import filesystem"),
        ("unionfs/filesystem.py", "from unionfs.linux import mount"),
        ("unionfs/fuse/x.py", "from unionfs.overlay import Union"),
        ("unionfs/check/x.py", "from unionfs.mounter.locks import locked"),
        ("unionfs/mounter/x.py", "from unionfs.check import check"),
        ("unionfs/bench/x.py", "from unionfs.mounter.control import ask"),
        ("unionfs/mounter/x.py", "from unionfs.cli import main"),
        ("unionfs/mounter/x.py", "import cli.main"),
    ],
)
def test_forbidden_import_is_found(file: str, statement: str) -> None:
    assert len(forbidden_imports(ROOT / file, statement)) == 1


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("unionfs/overlay/x.py", "from unionfs.filesystem import Attr\nfrom .layer import Layer\nimport unionfs.overlay.layer"),
        ("unionfs/mounter/x.py", "from unionfs import __version__\nfrom unionfs.fuse.session import Session"),
        ("cli/x.py", "from unionfs.mounter import daemon\nfrom .main import main"),
    ],
)
def test_allowed_import_is_not_complained_about(file: str, statement: str) -> None:
    assert forbidden_imports(ROOT / file, statement) == []


def test_no_file_is_too_long() -> None:
    lengths = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for path in (*sources("unionfs", "cli", "tests"), *(ROOT / "scripts").iterdir())
        if path.is_file()
    }
    assert {path: lines for path, lines in lengths.items() if lines >= MAX_LINES} == {}


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "misc", "common"}
    assert [path for path in sources("unionfs", "cli", "tests") if path.stem in drawers] == []


def test_every_package_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {".".join(package_of(path)) for path in sources("unionfs", "cli") if path.name == "__init__.py"}
    assert set(setuptools["packages"]) == on_disk


def test_nothing_but_unionfs_lands_in_site_packages() -> None:
    top_level = importlib.metadata.distribution("unionfs").read_text("top_level.txt")
    assert top_level is not None
    assert top_level.split() == ["unionfs"]
