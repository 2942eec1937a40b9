"""What was measured, and on what: written down with every result."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from unionfs.bench.program import last_line

_VERSIONS = {"mount": "mount --version", "fuse-overlayfs": "fuse-overlayfs --version", "unionfs-fuse": "unionfs-fuse --version"}


def environment() -> dict[str, Any]:
    """Machine, kernel, versions, commit and date, as JSON."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "python": platform.python_version(),
        "versions": {
            "unionfs": importlib.metadata.version("unionfs"),
            "pyfuse3": importlib.metadata.version("pyfuse3"),
            **{name: _version(name, command) for name, command in _VERSIONS.items()},
        },
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def in_one_line(environment: dict[str, Any]) -> str:
    """What a reader must know of `environment`."""
    commit = environment["commit"]
    revision = f" ({commit['id'][:12]}{', with changes' if commit['dirty'] else ''})" if commit else ""
    gibibytes = environment["memory"] / (1 << 30)
    return (
        f"{environment['cpu']}, {environment['cpus']} CPUs, {gibibytes:.0f} GiB; Linux {environment['kernel']}; "
        f"unionfs {environment['versions']['unionfs']}{revision}; {environment['date'][:10]}"
    )


def _field(path: Path, name: str) -> str | None:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:  # no /etc/os-release
        return "unknown"


def _version(name: str, command: str) -> str | None:
    """What a program says of itself; None if it is not installed."""
    try:
        done = subprocess.run(command.split(), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    lines = (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()
    # They tell the versions of libraries as well; fuse-overlayfs not first.
    return next((line.strip() for line in lines if line.startswith(name)), None) or last_line(done.stdout)


def _commit() -> dict[str, Any] | None:
    """The commit of the checkout that runs, and whether it has uncommitted changes; None if this is not a checkout."""
    package = Path(__file__).parents[1]
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return {"id": _git(package, "rev-parse", "HEAD"), "dirty": bool(_git(package, "status", "--porcelain", ":/"))}


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", directory, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
