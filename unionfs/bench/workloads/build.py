"""A C project of a lower layer, built with make: many small reads of sources and headers, objects written and read again."""

from __future__ import annotations

import os
import random
from pathlib import Path

from unionfs.bench.program import FIXED_TIME, run_program
from unionfs.bench.workload import Corpora, Place, Workload, WrongResultError, expect

UNITS = 60
"""Sources, each with a header of its own."""

INCLUDES = 12
"""Headers of other units that a source includes."""

_MAKEFILE = """\
CC = gcc
CFLAGS = -O1 -g -Wall -Werror -Iinclude -MMD
SOURCES = $(sort $(wildcard src/*.c))
OBJECTS = $(SOURCES:src/%.c=build/%.o)

build/program: build/main.o build/libunits.a
	$(CC) -o $@ build/main.o -Lbuild -lunits

build/libunits.a: $(filter-out build/main.o,$(OBJECTS))
	$(AR) rcs $@ $^

build/%.o: src/%.c | build
	$(CC) $(CFLAGS) -c -o $@ $<

build:
	mkdir build

-include $(OBJECTS:.o=.d)
"""

_HEADER = """\
#ifndef UNIT{number}_H
#define UNIT{number}_H
/* {comment} */
struct unit{number} {{
    unsigned int factor, summand;
}};
static inline unsigned int unit{number}_apply(const struct unit{number} *unit, unsigned int value)
{{
    return value * unit->factor + unit->summand;
}}
unsigned int unit{number}(unsigned int value);
#endif
"""

_SOURCE = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "unit{number}.h"
{includes}

static const struct unit{number} constants = {{ {factor}u, {summand}u }};

unsigned int unit{number}(unsigned int value)
{{
    char digits[16];
    snprintf(digits, sizeof digits, "%u", value);
    return unit{number}_apply(&constants, strlen(digits) ? (unsigned int)strtoul(digits, NULL, 10) : 0);
}}
"""

_MAIN = """\
#include <stdio.h>
{includes}

int main(void)
{{
    unsigned int value = 1;
{calls}
    printf("%u\\n", value);
    return 0;
}}
"""


def _constants(count: int) -> list[tuple[int, int]]:
    """Factor and summand of each unit."""
    rng = random.Random("units")  # noqa: S311  # reproducible on purpose
    return [(rng.randrange(1 << 32) | 1, rng.randrange(1 << 32)) for _ in range(count)]


def _expected(count: int) -> str:
    """What the program prints."""
    value = 1
    for factor, summand in _constants(count):
        value = (value * factor + summand) % (1 << 32)
    return f"{value}\n"


def _includes(numbers: list[int]) -> str:
    return "\n".join(f'#include "unit{number}.h"' for number in numbers)


def _sources(count: int) -> dict[str, str]:
    """Path in the project → text."""
    rng = random.Random("sources")  # noqa: S311  # reproducible on purpose
    calls = "\n".join(f"    value = unit{number}(value);" for number in range(count))
    texts = {"Makefile": _MAKEFILE, "src/main.c": _MAIN.format(includes=_includes(list(range(count))), calls=calls)}
    for number, (factor, summand) in enumerate(_constants(count)):
        others = rng.sample(range(count), min(INCLUDES, count))
        texts[f"include/unit{number}.h"] = _HEADER.format(number=number, comment=rng.randbytes(500).hex())
        texts[f"src/unit{number}.c"] = _SOURCE.format(number=number, factor=factor, summand=summand, includes=_includes(others))
    return texts


def _make_project(layer: Path, count: int) -> None:
    for name, text in _sources(count).items():
        path = layer / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (FIXED_TIME, FIXED_TIME))  # older than any object


class Make:
    """All of the project is compiled, two compilers at a time, archived and linked."""

    name = "make"
    title = f"make -j2, {UNITS} C files"
    group = "programs"
    requires: tuple[str, ...] = ("make", "gcc")

    def layers(self, corpora: Corpora) -> list[Path]:
        count = corpora.scaled(UNITS)
        return [corpora.get(f"c-project-{count}", lambda layer: _make_project(layer, count))]

    def prepare(self, place: Place) -> None:
        pass

    def run(self, place: Place) -> None:
        run_program(["make", "--jobs=2"], home=place.scratch, cwd=place.merged / "project")

    def check(self, place: Place) -> None:
        project = place.merged / "project"
        program = project / "build/program"
        if not program.exists():
            raise WrongResultError("there is no build/program")
        printed = run_program([program], home=place.scratch).decode()
        expect("what the program prints", printed, _expected(place.corpora.scaled(UNITS)))
        left = run_program(["make", "--dry-run"], home=place.scratch, cwd=project).decode()
        if "is up to date" not in left:
            raise WrongResultError(f"something is left to do: {left.splitlines()[0]}")


WORKLOADS: tuple[Workload, ...] = (Make(),)
