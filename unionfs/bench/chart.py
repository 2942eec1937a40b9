"""A report as a picture: for each workload a bar of each system, its ratio to the kernel's OverlayFS on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from xml.etree import ElementTree

from unionfs.bench.report import Report, Row
from unionfs.bench.systems import REFERENCE
from unionfs.bench.tables import ratio

_WIDTH = 1040
_LEFT, _RIGHT = 370, 70
_TOP = 112
_BAR, _BAR_STEP = 9, 11
_ROW_GAP, _GROUP_HEADING = 12, 30

# The palette of Okabe and Ito, which people with any kind of colour vision can tell apart.
_COLOURS = ("#999999", "#E69F00", "#CC79A7", "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#F0E442")

_STYLE = """
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 12px; fill: #222 }
.title { font-size: 19px; font-weight: 600 }
.note, .tick { fill: #666; font-size: 11px }
.group { font-size: 13px; font-weight: 600; fill: #444 }
.value { font-size: 9px; fill: #444 }
.grid { stroke: #e4e4e4 }
.kernel { stroke: #222; stroke-width: 1.5 }
"""


class _Scale:
    """Ratios to x coordinates.  It reaches from the power of ten (or two or five times it) below the smallest to that above the
    largest, and always over 1."""

    def __init__(self, ratios: Sequence[float]) -> None:
        steps = [factor * 10.0**power for power in range(-4, 7) for factor in (1, 2, 5)]
        low, high = min([0.5, *ratios]), max([2.0, *ratios])
        first = max(index for index, step in enumerate(steps) if step <= low or index == 0)
        last = min(index for index, step in enumerate(steps) if step >= high or index == len(steps) - 1)
        self.ticks = steps[first : last + 1]
        self._low, self._high = math.log(self.ticks[0]), math.log(self.ticks[-1])

    def x(self, value: float) -> float:
        """Where ``value`` is; what lies beyond the ends is at the end."""
        part = (math.log(value) - self._low) / (self._high - self._low)
        return _LEFT + min(1.0, max(0.0, part)) * (_WIDTH - _LEFT - _RIGHT)


def svg(report: Report, subtitle: str) -> str:
    """The picture as an SVG document.  ``subtitle`` tells the machine.  Rows without the kernel's time are left out."""
    systems = [system for system in report.systems if system != REFERENCE]
    rows = [row for row in report.rows if REFERENCE in row.seconds]
    height = _height(rows, systems)
    root = ElementTree.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH} {height}", "width": f"{_WIDTH}", "height": f"{height}"},
    )
    ElementTree.SubElement(root, "style").text = _STYLE
    ElementTree.SubElement(root, "rect", {"width": f"{_WIDTH}", "height": f"{height}", "fill": "#fff"})
    _text(root, 20, 32, "Time for the same work, as a multiple of the kernel's OverlayFS (the further left, the better)", "title")
    _text(root, 20, 52, subtitle, "note")
    _legend(root, systems)
    scale = _Scale([value for row in rows for value in row.ratios().values()])
    _grid(root, scale, height)
    _bars(root, rows, systems, scale)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _row_height(systems: Sequence[str]) -> int:
    return len(systems) * _BAR_STEP + _ROW_GAP


def _groups(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    return [(group, list(members)) for group, members in groupby(rows, lambda row: row.group)]


def _height(rows: Sequence[Row], systems: Sequence[str]) -> int:
    return _TOP + len(_groups(rows)) * _GROUP_HEADING + len(rows) * _row_height(systems) + 30


def _text(parent: ElementTree.Element, x: float, y: float, text: str, kind: str, anchor: str = "start") -> None:
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": kind, "text-anchor": anchor}
    ElementTree.SubElement(parent, "text", attributes).text = text


def _line(parent: ElementTree.Element, x: float, top: float, bottom: float, kind: str) -> None:
    ElementTree.SubElement(
        parent, "line", {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": f"{top:.1f}", "y2": f"{bottom:.1f}", "class": kind}
    )


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _legend(root: ElementTree.Element, systems: Sequence[str]) -> None:
    x = 20.0
    for index, system in enumerate(systems):
        ElementTree.SubElement(root, "rect", {"x": f"{x:.1f}", "y": "66", "width": "12", "height": "12", "fill": _colour(index)})
        _text(root, x + 17, 76, system, "legend")
        x += 40 + 7.2 * len(system)


def _grid(root: ElementTree.Element, scale: _Scale, height: int) -> None:
    for tick in scale.ticks:
        x = scale.x(tick)
        _line(root, x, _TOP - 4, height - 24, "kernel" if tick == 1 else "grid")
        label = "kernel" if tick == 1 else f"{tick:g}\N{MULTIPLICATION SIGN}"
        _text(root, x, _TOP - 9, label, "tick", "middle")
        _text(root, x, height - 10, label, "tick", "middle")


def _bars(root: ElementTree.Element, rows: Sequence[Row], systems: Sequence[str], scale: _Scale) -> None:
    y = float(_TOP)
    for group, members in _groups(rows):
        _text(root, 20, y + 19, group, "group")
        y += _GROUP_HEADING
        for row in members:
            _text(root, _LEFT - 12, y + _row_height(systems) / 2 - _ROW_GAP / 2 + 3, row.title, "workload", "end")
            for index, system in enumerate(systems):
                _bar(root, row, system, y + index * _BAR_STEP, _colour(index), scale)
            y += _row_height(systems)


def _bar(root: ElementTree.Element, row: Row, system: str, y: float, colour: str, scale: _Scale) -> None:
    value = row.ratios().get(system)
    if value is None:
        if system in row.failures:
            _text(root, scale.x(1) + 4, y + _BAR - 1, f"{system}: failed", "value")
        return
    start, end = sorted((scale.x(1), scale.x(value)))
    bar = ElementTree.SubElement(
        root,
        "rect",
        {
            "x": f"{start:.1f}",
            "y": f"{y:.1f}",
            "width": f"{max(1.0, end - start):.1f}",
            "height": f"{_BAR}",
            "fill": colour,
            "class": "bar",
        },
    )
    # Shown by browsers when the pointer is on it.
    ElementTree.SubElement(bar, "title").text = f"{row.title}: {system} {ratio(value)}"
    if value >= 1:
        _text(root, end + 4, y + _BAR - 1, ratio(value), "value")
    else:
        _text(root, start - 4, y + _BAR - 1, ratio(value), "value", "end")
