"""What is made of measurements: medians, ratios, means, tables."""

from __future__ import annotations

import json

import pytest

from tests.bench.made_up import report
from unionfs.bench.copy_up_latency import CopyUpLatency, Latency
from unionfs.bench.daemon_figures import DaemonFigures
from unionfs.bench.report import Report
from unionfs.bench.tables import Table, milliseconds, ratio, tables


def times_table(of: Report) -> Table:
    return tables(of)[0]


def test_cell_is_the_median_of_the_rounds_and_its_ratio_to_the_kernel() -> None:
    (row,) = report({"create": {"kernel": [0.001, 0.2, 0.1], "direct": [0.3, 0.25, 9.0]}}).rows
    assert row.seconds == {"kernel": 0.1, "direct": 0.3}
    assert row.ratios()["direct"] == pytest.approx(3.0)
    assert row.ratios("direct")["kernel"] == pytest.approx(1 / 3)


def test_mean_is_geometric() -> None:
    made = report({"create": {"kernel": [1], "direct": [2]}, "unlink": {"kernel": [1], "direct": [8]}})
    assert made.means("kernel") == pytest.approx({"kernel": 1, "direct": 4})
    assert made.means("fuse-overlayfs") == {}


def test_mean_is_over_the_rows_that_all_unions_have() -> None:
    times: dict[str, dict[str, list[float]]] = {
        "create": {"kernel": [1], "fuse-overlayfs": [4], "direct": [2]},
        "unlink": {"kernel": [1], "direct": [1000]},
    }
    made = report(times, failures={("unlink", "fuse-overlayfs"): "Input/output error"})
    assert [row.name for row in made.common_rows()] == ["create"]
    assert made.means("kernel")["direct"] == pytest.approx(2)
    assert made.means("fuse-overlayfs")["direct"] == pytest.approx(0.5)
    assert times_table(made).rows[-1] == [
        "geometric mean of the ratios to fuse-overlayfs, 1 of 2 rows",
        *(ratio(value) for value in (0.25, 1, 0.5)),
    ]


def test_plain_directory_has_no_mean_and_takes_no_row_from_the_others() -> None:
    made = report({"create": {"plain": [1], "kernel": [2], "direct": [4]}, "layers-known-500": {"kernel": [1], "direct": [2]}})
    assert len(made.common_rows()) == 2
    assert "plain" not in made.means("kernel")
    assert [row[1] for row in times_table(made).rows] == ["1,000 (0.50\N{MULTIPLICATION SIGN})", "-", "-"]


def test_system_that_failed_in_one_round_failed() -> None:
    made = report({"create": {"kernel": [1], "direct": [2, 2]}}, failures={("create", "direct"): "Input/output error"})
    assert made.rows[0].seconds == {"kernel": 1}
    assert made.rows[0].cpu == {}
    assert times_table(made).rows[0][1:] == ["1,000", "failed"]
    assert times_table(made).notes == ["create: failed on direct: Input/output error"]
    assert made.means("kernel") == {}


def test_what_was_not_measured_is_told_below_the_table() -> None:
    made = report({"create": {"kernel": [1]}, "untar": {}}, missing={"untar": "no tar"})
    assert [row.name for row in made.rows] == ["create"]
    assert times_table(made).notes == ["untar: not measured: no tar"]


def test_without_the_kernel_there_are_times_and_no_ratios() -> None:
    made = report({"create": {"direct": [0.5], "pyfuse3": [1.5]}})
    assert times_table(made).rows == [["create 5,000 files of 4 KiB", "500", "1,500"]]


def test_cpu_table_has_the_systems_with_a_daemon() -> None:
    cpu = tables(report({"create": {"kernel": [1], "direct": [0.5]}}))[1]
    assert (cpu.columns, cpu.rows) == (["workload", "direct"], [["create 5,000 files of 4 KiB", "250"]])


def test_figures_of_daemons_are_shown() -> None:
    made = report({"create": {"kernel": [1], "direct": [1], "pyfuse3": [1]}})
    made.results.daemons["direct"] = DaemonFigures(20 << 20, 10 << 20, 512.4, 0.0, 5.0)
    made.results.daemons["pyfuse3"] = DaemonFigures(failure="the daemon has ended")
    figures = tables(made)[2]
    assert [row[1:] for row in figures.rows] == [["20.0", "-"], ["10.0", "-"], ["512", "-"], ["0", "-"]]
    assert figures.notes == ["pyfuse3: failed: the daemon has ended"]


def test_latency_is_the_median_of_the_rounds_and_the_longest_of_all() -> None:
    made = report({"create": {"kernel": [1], "direct": [1], "pyfuse3": [1]}})
    made.results.latencies += [
        CopyUpLatency("kernel", 0, Latency(0.001, 0.002, 0.003, 100, 1.0)),
        CopyUpLatency("direct", 0, Latency(0.001, 0.02, 0.03, 100, 1.0)),
        CopyUpLatency("direct", 1, Latency(0.005, 0.06, 0.07, 200, 3.0)),
        CopyUpLatency("direct", 2, Latency(0.003, 0.05, 0.09, 400, 2.0)),
        CopyUpLatency("pyfuse3", 0, Latency(0.001, 0.02, 0.03, 100, 1.0)),
        CopyUpLatency("pyfuse3", 1, failure="Input/output error"),
    ]
    assert made.latencies()["direct"] == Latency(0.003, 0.05, 0.09, 700, 2.0)
    figures = tables(made)[2]
    assert list(figures.columns) == ["", "kernel", "direct"]
    assert [row[1:] for row in figures.rows] == [["2.00", "50.0"], ["3.00", "90.0"]]
    assert figures.notes == ["copy-up-latency: failed on pyfuse3: Input/output error"]


def test_three_digits_are_shown() -> None:
    assert [milliseconds(value) for value in (1.2345, 0.1, 0.09996, 0.01234, 0.009996, 0.00123, 0.000_001)] == [
        "1,234",
        "100",
        "100",
        "12.3",
        "10.0",
        "1.23",
        "<0.01",
    ]


def test_markdown_is_a_table() -> None:
    table = Table("Times", ["work", "kernel"], [["a | b", "1.00"]], ["scaled"])
    assert table.markdown().splitlines() == [
        "### Times",
        "",
        "| work | kernel |",
        "| --- | ---: |",
        "| a \\| b | 1.00 |",
        "",
        "- scaled",
    ]


def test_json_has_every_measurement() -> None:
    made = report({"create": {"kernel": [1, 2, 4], "direct": [2, 4, 6]}})
    made.results.daemons["direct"] = DaemonFigures(failure="gone")
    made.results.latencies.append(CopyUpLatency("direct", 0, Latency(0.001, 0.002, 0.003, 100, 1.0)))
    document = json.loads(json.dumps(made.as_json({"kernel": "6.18"}, {"rounds": 3})))
    assert [entry["seconds"] for entry in document["measurements"]] == [1, 2, 4, 2, 4, 6]
    assert document["workloads"][0]["median_seconds"] == {"kernel": 2, "direct": 4}
    assert document["workloads"][0]["ratios"] == {"kernel": 1, "direct": 2}
    assert document["geometric_means"] == {"kernel": {"kernel": 1, "direct": 2}, "fuse-overlayfs": {}}
    assert document["daemons"]["direct"]["failure"] == "gone"
    latency = {"median_seconds": 0.001, "p99_seconds": 0.002, "longest_seconds": 0.003, "requests": 100, "copy_up_seconds": 1}
    assert document["copy_up_latency"] == {"direct": latency}
    assert document["copy_up_latency_measurements"] == [{"system": "direct", "round": 0, "latency": latency, "failure": None}]
    assert (document["environment"], document["options"]) == ({"kernel": "6.18"}, {"rounds": 3})
