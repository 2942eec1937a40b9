"""The picture."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.bench.made_up import report
from unionfs.bench.chart import svg
from unionfs.bench.report import Report

SVG = "{http://www.w3.org/2000/svg}"


def drawn(of: Report) -> ElementTree.Element:
    return ElementTree.fromstring(svg(of, "<machine> & kernel"))  # noqa: S314  # we have just written it


def bars(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """What a bar says when pointed at -> its left and right end."""
    found = {}
    for bar in root.iter(f"{SVG}rect"):
        if bar.get("class") == "bar":
            left = float(bar.attrib["x"])
            found[bar.findtext(f"{SVG}title", "")] = (left, left + float(bar.attrib["width"]))
    return found


def test_every_workload_has_a_bar_of_every_system_but_the_kernel() -> None:
    times: dict[str, list[float]] = {"plain": [1], "kernel": [2], "direct": [3], "pyfuse3": [90]}
    root = drawn(report({"create": times, "walk-cold": times}))
    assert len(bars(root)) == 6
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "<machine> & kernel" in texts
    assert {"create 5,000 files of 4 KiB", "walk 12,000 files, cold", "plain", "direct", "pyfuse3"} <= set(texts)


def test_bars_begin_at_the_line_of_the_kernel() -> None:
    root = drawn(report({"create": {"plain": [1], "kernel": [2], "direct": [20]}}))
    (kernel,) = [float(line.attrib["x1"]) for line in root.iter(f"{SVG}line") if line.get("class") == "kernel"]
    sign = "\N{MULTIPLICATION SIGN}"
    found = bars(root)
    left, right = found[f"create 5,000 files of 4 KiB: plain 0.50{sign}"]
    assert left < right == kernel
    left, right = found[f"create 5,000 files of 4 KiB: direct 10.0{sign}"]
    assert right > left == kernel


def test_failure_is_written_where_the_bar_would_be() -> None:
    root = drawn(report({"create": {"kernel": [2], "direct": [20]}}, failures={("create", "pyfuse3"): "why"}))
    assert len(bars(root)) == 1
    assert "pyfuse3: failed" in [text.text for text in root.iter(f"{SVG}text")]


def test_workload_without_the_time_of_the_kernel_is_left_out() -> None:
    assert bars(drawn(report({"create": {"direct": [20]}}))) == {}
