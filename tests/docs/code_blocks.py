"""What stands as code in a page of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block: its language, its text, the number of its first line in the page."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text()
    return [Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1) for match in _FENCE.finditer(text)]


def inline_commands(page: Path) -> list[str]:
    """What is quoted in running text and begins with ``unionfs`` or with a group of its commands."""
    text = _FENCE.sub("", page.read_text())
    # In tables a bar stands behind a backslash.
    pieces = [piece.strip() for code in _INLINE.findall(text) for piece in re.split("&&|;", code.replace("\\|", "|"))]
    return [piece for piece in pieces if piece.startswith(("unionfs ", "image ", "layer "))]


def script(page: Path) -> str:
    """All shell blocks of a page as one script, whose line numbers are those of the page."""
    lines = [""] * (page.read_text().count("\n") + 1)
    for block in blocks(page):
        if block.language == "sh":
            for number, line in enumerate(block.text.splitlines(), start=block.line):
                lines[number - 1] = line
    return "\n".join(lines)
