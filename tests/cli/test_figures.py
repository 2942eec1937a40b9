"""What ``unionfs status`` and ``unionfs metrics`` tell of the work of a daemon."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import Layers, Programs
from tests.programs import wait_until
from unionfs.mounter.processes import is_running, start_time


def samples(text: str) -> dict[tuple[str, str, str], float]:
    """By name, mount and the remaining label's value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            merged = labels.pop("merged")
            found[sample.name, merged, ",".join(sorted(labels.values()))] = sample.value
    return found


def test_requests_are_shown_with_their_times(programs: Programs, layers: Layers, transport: str) -> None:
    programs.unionfs("mount", "--transport", transport, *layers.arguments)
    assert not (layers.merged / "missing").exists()
    with pytest.raises(FileNotFoundError):
        (layers.merged / "missing").rmdir()
    (layers.merged / "both").unlink()
    heading, *rows = programs.unionfs("status", "--requests", layers.merged).splitlines()
    assert heading.split()[:3] == ["REQUEST", "COUNT", "ERRORS"]
    shown = {row.split()[0]: row.split()[1:] for row in rows}
    assert shown["unlink"][:2] == ["1", "0"]
    assert 0 < float(shown["unlink"][4]) < float(shown["unlink"][6]) * 2
    times = json.loads(programs.unionfs("status", "--requests", "--json", layers.merged))
    assert sum(count for _, count in times["unlink"]["buckets"]) == times["unlink"]["count"] == 1


def test_status_tells_what_the_daemon_takes(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", *layers.arguments)
    process = json.loads(programs.unionfs("status", "--json", layers.merged))["process"]
    assert process["cpu_seconds"] > 0
    assert process["resident_bytes"] > 1 << 20
    assert process["open_files"] >= 3


def test_metrics_of_all_unions_tell_of_each(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    programs.unionfs("mount", *layers.arguments)
    programs.unionfs("mount", "-l", layers.base, other)
    (layers.merged / "both").unlink()
    figures = samples(programs.unionfs("metrics"))
    merged = str(layers.merged)
    assert figures["unionfs_up", merged, ""] == figures["unionfs_up", str(other), ""] == 1
    assert figures["unionfs_layers", merged, ""] == 3
    assert figures["unionfs_layers", str(other), ""] == 1
    assert figures["unionfs_request_duration_seconds_count", merged, "unlink"] == 1
    assert figures["unionfs_request_duration_seconds_bucket", merged, "+Inf,unlink"] == 1
    assert figures["unionfs_request_errors_total", merged, "unlink"] == 0
    assert ("unionfs_up", str(other), "") not in samples(programs.unionfs("metrics", layers.merged))


def test_metrics_replace_their_file(programs: Programs, layers: Layers, tmp_path: Path) -> None:
    programs.unionfs("mount", *layers.arguments)
    output = tmp_path / "unionfs.prom"
    output.write_text("old")
    assert programs.unionfs("metrics", "--output", output, layers.merged) == ""
    assert samples(output.read_text())["unionfs_up", str(layers.merged), ""] == 1
    assert [path.name for path in tmp_path.glob("unionfs.prom*")] == ["unionfs.prom"]


def test_metrics_that_cannot_be_written_are_refused(programs: Programs, tmp_path: Path) -> None:
    line = programs.refusal("metrics", "--output", tmp_path / "missing" / "file")
    assert line.startswith(f"{tmp_path}/missing/file: cannot be written: No such file or directory; name a file")


def test_a_dead_daemon_is_down_in_the_metrics(programs: Programs, layers: Layers) -> None:
    programs.unionfs("mount", *layers.arguments)
    pid = programs.daemon_of(layers.merged)
    started = start_time(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid, started))
    assert samples(programs.unionfs("metrics", layers.merged)) == {("unionfs_up", str(layers.merged), ""): 0}
    programs.unionfs("umount", layers.merged)
