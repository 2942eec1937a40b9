"""What a function imports can be loaded in whatever order a program happens to call such functions: each can be the first.

Most tests run commands in which everything is loaded already (`tests.preloaded`), and would not notice."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.programs import output
from tests.test_layout import sources

# A process for each, of one that has loaded what is not ours.
_LOAD_EACH = """
import importlib, os, sys, click, prometheus_client, pyfuse3, rich.console, rich.progress, rich.table, sqlite3, trio, zstandard
for name in sys.argv[1:]:
    if not (child := os.fork()):
        importlib.import_module(name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name)
"""


def imported_in_functions(path: Path) -> set[str]:
    """The modules of ours that functions of a source import."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    statements = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
    return {node.module for node in statements if node.module and node.module.startswith("unionfs.")}


def test_each_module_that_a_function_imports_can_be_loaded_first() -> None:
    late = sorted(set().union(*map(imported_in_functions, sources("unionfs", "cli"))))
    assert "unionfs.mounter.unmounting" in late
    assert output([sys.executable, "-c", _LOAD_EACH, *late]) == ""
