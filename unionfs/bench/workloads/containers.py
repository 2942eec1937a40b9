"""Containers that start on the union as their root: what everybody waits for who runs one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from unionfs.bench.errors import BenchError
from unionfs.bench.program import run_program
from unionfs.bench.workload import Corpora, Place, Workload, expect

STARTS = 5


def _make_root(layer: Path) -> None:
    """A root filesystem of busybox alone."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "the harness has looked for it"
    for name in ("bin", "dev", "etc", "proc", "root", "run", "srv", "sys", "tmp"):
        (layer / name).mkdir(parents=True)
    shutil.copy(busybox, layer / "bin/busybox")
    for applet in run_program([busybox, "--list"], home=layer).decode().split():
        if applet != "busybox":
            (layer / "bin" / applet).symlink_to("busybox")
    (layer / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (layer / "etc/group").write_text("root:x:0:\n")


def _evidence(number: int) -> str:
    """The file that a container makes, by its path inside."""
    return f"/srv/started{number}"


class Start:
    """Containers one after the other, each with runc's own defaults: namespaces, cgroups, seccomp, its mounts, pivot_root."""

    name = "container-start"
    title = f"runc run {STARTS} times, busybox"
    group = "programs"
    requires: tuple[str, ...] = ("runc", "busybox")

    def layers(self, corpora: Corpora) -> list[Path]:
        if os.geteuid() != 0:
            raise BenchError("runc needs root for these containers; run as root")
        return [corpora.get("busybox-root", _make_root)]

    def prepare(self, place: Place) -> None:
        run_program(["runc", "spec"], home=place.scratch, cwd=place.scratch)
        spec = json.loads((place.scratch / "config.json").read_text())
        spec["root"] = {"path": os.fspath(place.merged), "readonly": False}
        for number in range(STARTS):
            spec["process"].update(terminal=False, args=["/bin/touch", _evidence(number)])
            bundle = self._bundle(place, number)
            bundle.mkdir()
            (bundle / "config.json").write_text(json.dumps(spec))

    def run(self, place: Place) -> None:
        for number in range(STARTS):
            self._start(place, number)

    def check(self, place: Place) -> None:
        started = [number for number in range(STARTS) if (place.merged / _evidence(number).lstrip("/")).exists()]
        expect("containers that ran", started, list(range(STARTS)))

    def _bundle(self, place: Place, number: int) -> Path:
        return place.scratch / f"bundle{number}"

    def _start(self, place: Place, number: int) -> None:
        # The name is that of a cgroup too, and so the same for the whole machine.
        name = f"unionfs-bench-{os.getpid()}-{number}"
        runc = ("runc", "--root", place.scratch / "runc")
        try:
            run_program([*runc, "run", "--bundle", self._bundle(place, number), name], home=place.scratch)
        except BaseException:
            # What was killed could not clean up; where nothing was left of the container, there is nothing to say.
            with contextlib.suppress(BenchError):
                run_program([*runc, "delete", "--force", name], home=place.scratch)
            raise


WORKLOADS: tuple[Workload, ...] = (Start(),)
