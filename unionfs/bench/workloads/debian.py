"""dpkg and apt in a Debian root filesystem: what building an image of layers spends its time with."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from unionfs.bench.errors import BenchError
from unionfs.bench.program import run_program
from unionfs.bench.workload import Corpora, Place, Workload, WrongResultError, expect

PACKAGES = 5
FILES = 200
"""Files in each package."""

FILES_A_DIRECTORY = 20

_ROOTFS_SCRIPT = Path(__file__).parents[3] / "scripts/rootfs"

# A process tree of its own, with mounts of its own: however it ends, nothing of it keeps the union from being unmounted.
_IN_CHROOT = (
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c"),
    'mount --bind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"',
)

_VARIABLES = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TMPDIR": "/tmp",  # noqa: S108  # that of the root filesystem
    "DEBIAN_FRONTEND": "noninteractive",
}

_REPOSITORY = "packages"
"""The directory of the packages, in the root filesystem."""


def _in_chroot(place: Place, *command: str) -> str:
    return run_program([*_IN_CHROOT, place.merged, *command], home=place.scratch, environment=_VARIABLES).decode()


def copy_rootfs(corpora: Corpora) -> Path:
    """A layer with the root filesystem that ``scripts/rootfs`` makes and keeps.  Raises `BenchError`."""
    if not _ROOTFS_SCRIPT.exists():
        raise BenchError(f"no {_ROOTFS_SCRIPT}; run from a checkout of unionfs")

    def make(layer: Path) -> None:
        rootfs = run_program([_ROOTFS_SCRIPT, "--debian-only"]).decode().strip()
        run_program(["cp", "--archive", "--reflink=auto", f"{rootfs}/.", layer])

    return corpora.get("debian-root", make)


def _package(number: int) -> str:
    return f"unionfs-bench{number}"


def _files(number: int, count: int) -> dict[str, str]:
    """What a package installs: path → content."""
    rng = random.Random(f"package {number}")  # noqa: S311  # reproducible on purpose
    top = f"usr/share/{_package(number)}"
    files = {
        f"{top}/{file // FILES_A_DIRECTORY:02}/file{file:03}": f"{rng.randbytes(rng.randrange(100, 2000)).hex()}\n"
        for file in range(count)
    }
    return {**files, f"etc/{_package(number)}.conf": f"number={number}\n"}


def _control(number: int) -> str:
    depends = f"Depends: {_package(number - 1)}\n" if number else ""
    return (
        f"Package: {_package(number)}\nVersion: 1.0\nArchitecture: all\n{depends}"
        "Maintainer: The unionfs authors <unionfs@example.org>\nDescription: a package to install into a union\n"
    )


def _build_package(directory: Path, number: int, count: int) -> Path:
    """Write a package into ``directory``: files, a configuration file, checksums, a script; where it is."""
    source = directory / _package(number)
    files = _files(number, count)
    sums = "".join(f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}  {path}\n" for path, text in files.items())
    control = {
        "DEBIAN/control": _control(number),
        "DEBIAN/conffiles": f"/etc/{_package(number)}.conf\n",
        "DEBIAN/md5sums": sums,
        "DEBIAN/postinst": f"#!/bin/sh\nset -e\necho {_package(number)} $1 >>/var/lib/unionfs-bench.log\n",
    }
    for path, text in (files | control).items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    (source / "DEBIAN/postinst").chmod(0o755)
    package = directory / f"{_package(number)}_1.0_all.deb"
    run_program(["dpkg-deb", "--root-owner-group", "--build", source, package], home=directory)
    shutil.rmtree(source)
    return package


def _index_entry(package: Path, control: str) -> str:
    content = package.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return f"{control}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {digest}\n\n"


def _make_repository(layer: Path, count: int) -> None:
    """A directory of packages that is a flat repository for apt."""
    directory = layer / _REPOSITORY
    directory.mkdir(parents=True)
    entries = [_index_entry(_build_package(directory, number, count), _control(number)) for number in range(PACKAGES)]
    (directory / "Packages").write_text("".join(entries))
    (directory / "sources.list").write_text(f"deb [trusted=yes] file:///{_REPOSITORY} ./\n")


def repository(corpora: Corpora) -> Path:
    """The layer with the packages."""
    count = corpora.scaled(FILES)
    return corpora.get(f"debian-packages-{count}", lambda layer: _make_repository(layer, count))


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


class _Installation:
    """Packages are unpacked and configured in a chroot, with all the syncs and renames of dpkg."""

    group = "programs"
    requires: tuple[str, ...] = ("unshare", "chroot", "mount", "dpkg-deb")

    def __init__(self, name: str, title: str, commands: tuple[tuple[str, ...], ...], rootfs: Callable[[Corpora], Path]) -> None:
        self.name, self.title = name, title
        self.commands = commands
        self.rootfs = rootfs

    def layers(self, corpora: Corpora) -> list[Path]:
        if os.geteuid() != 0:
            raise BenchError("a root filesystem has files of many owners; run as root")
        return [repository(corpora), self.rootfs(corpora)]

    def prepare(self, place: Place) -> None:
        pass

    def run(self, place: Place) -> None:
        for command in self.commands:
            _in_chroot(place, *command)

    def check(self, place: Place) -> None:
        names = [_package(number) for number in range(PACKAGES)]
        log = place.merged / "var/lib/unionfs-bench.log"
        configured = sorted(log.read_text().splitlines()) if log.exists() else []
        expect("packages configured", configured, [f"{name} configure" for name in names])
        states = _in_chroot(place, "dpkg-query", "--show", "--showformat=${Package} ${Status}\n", *names)
        expect("states of the packages", states.splitlines(), [f"{name} install ok installed" for name in names])
        count = place.corpora.scaled(FILES)
        for number in range(PACKAGES):
            wrong = [path for path, text in _files(number, count).items() if not _holds(place.merged / path, text)]
            if wrong:
                raise WrongResultError(f"{len(wrong)} files are not as in the package: {wrong[0]}, …")


_APT = (
    "apt-get",
    "--quiet=2",
    *("-o", f"Dir::Etc::SourceList=/{_REPOSITORY}/sources.list"),
    *("-o", "Dir::Etc::SourceParts=-"),
)


def installations(rootfs: Callable[[Corpora], Path]) -> tuple[Workload, ...]:
    """The workloads; ``rootfs`` gives the layer with the root filesystem."""
    debs = tuple(f"/{_REPOSITORY}/{_package(number)}_1.0_all.deb" for number in range(PACKAGES))
    last = _package(PACKAGES - 1)
    return (
        _Installation(
            "dpkg-install",
            f"dpkg --install, {PACKAGES} packages of {FILES} files",
            (("dpkg", "--install", *debs),),
            rootfs,
        ),
        _Installation(
            "apt-install",
            f"apt-get update and install, {PACKAGES} packages of {FILES} files",
            ((*_APT, "update"), (*_APT, "--yes", "install", last)),
            rootfs,
        ),
    )


WORKLOADS: tuple[Workload, ...] = installations(copy_rootfs)
