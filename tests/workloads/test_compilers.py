"""Programs that write one file for each they read: byte-compiling, and a C project built by make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .machine import Machine

MODULES = 24

MAKEFILE = """\
SOURCES := $(wildcard *.c)
CFLAGS := -O1 -Wall -Werror -MMD
program: $(SOURCES:.c=.o)
\t$(CC) -o $@ $^
-include $(SOURCES:.c=.d)
clean:
\trm -f program *.o *.d
"""


@pytest.mark.timeout(300)
def test_byte_compiled_lower_modules_are_used(machine: Machine) -> None:
    script = (
        "import asyncio, compileall, email, json, os, sys\n"
        "for package in (asyncio, email, json):\n"
        "    folder = os.path.dirname(package.__file__)\n"
        "    print(folder)\n"
    )
    folders = machine.run("python3", "-c", script).split()
    assert len(folders) == 3
    machine.run("python3", "-m", "compileall", "-q", "-f", "--invalidation-mode", "checked-hash", *folders)
    for folder in folders:
        sources = {source.stem for source in machine.path(folder).glob("*.py")}
        compiled = list((machine.upper / folder.lstrip("/") / "__pycache__").glob("*.pyc"))
        assert {path.name.partition(".")[0] for path in compiled} == sources
        # Flags 0b11 in bytes 4..8: hash-based and checked (PEP 552).
        assert {path.read_bytes()[4] for path in compiled} == {3}
    machine.run("python3", "-c", "import asyncio, email, json; asyncio.run(asyncio.sleep(0))")


def write_project(directory: Path) -> None:
    (directory / "Makefile").write_text(MAKEFILE)
    (directory / "common.h").write_text("#define STEP 1\n" + "".join(f"int module{n}(int);\n" for n in range(MODULES)))
    for number in range(MODULES):
        (directory / f"module{number}.c").write_text(
            f'#include "common.h"\n#include <stdlib.h>\nint module{number}(int x) {{ return abs(x) + STEP * {number}; }}\n'
        )
    calls = "".join(f"sum = module{n}(sum);" for n in range(MODULES))
    (directory / "main.c").write_text(
        f'#include "common.h"\n#include <stdio.h>\nint main(void) {{ int sum = 0; {calls} printf("%d\\n", sum); return 0; }}\n'
    )


@pytest.mark.timeout(300)
def test_c_project_is_built_and_rebuilt_by_make(machine: Machine) -> None:
    directory = machine.make_directory("/project")
    write_project(directory)
    total = sum(range(MODULES))

    machine.run("make", "-j2", directory="/project")
    assert machine.run("./program", directory="/project") == f"{total}\n"
    assert "up to date" in machine.run("make", directory="/project")

    header = directory / "common.h"
    header.write_text(header.read_text().replace("STEP 1", "STEP 2"))
    # make compares times: the new one must be later than every object's.
    latest = max(path.stat().st_mtime_ns for path in directory.iterdir())
    os.utime(header, ns=(latest + 1_000_000, latest + 1_000_000))
    rebuilt = machine.run("make", "-j2", directory="/project")
    assert rebuilt.count(" -c ") == MODULES + 1
    assert machine.run("./program", directory="/project") == f"{2 * total}\n"

    machine.run("make", "clean", directory="/project")
    assert sorted(path.suffix for path in directory.iterdir()) == ["", *[".c"] * (MODULES + 1), ".h"]
