"""The systems that are compared, and the commands that mount them: those that a user would type."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unionfs.bench.daemon import MARK


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of one measurement, all new and empty.  ``names`` holds symbolic links 0, 1, … to the layers: mount(2)
    takes 4096 bytes of options, too few for the paths of 500 layers.  Mount commands run in it."""

    directory: Path

    @property
    def upper(self) -> Path:
        """The writable layer."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        """Its work directory."""
        return self.directory / "work"

    @property
    def merged(self) -> Path:
        """The mount point."""
        return self.directory / "merged"

    @property
    def scratch(self) -> Path:
        """For what a workload needs besides the union."""
        return self.directory / "scratch"

    @property
    def names(self) -> Path:
        """Short names of the layers."""
        return self.directory / "names"

    @property
    def environment(self) -> dict[str, str]:
        """What is added to the environment of mount commands: a mark, and our registry and logs away from those of the user's own
        mounts."""
        return {
            MARK: str(self.directory),
            "UNIONFS_RUNTIME_DIR": str(self.directory / "run"),
            "UNIONFS_LOG_DIR": str(self.directory / "log"),
        }

    def make(self, layers: Sequence[Path]) -> None:
        """Make all of them."""
        self.directory.mkdir()
        for directory in (self.upper, self.work, self.merged, self.scratch, self.names):
            directory.mkdir()
        for name in ("run", "log"):
            (self.directory / name).mkdir(mode=0o700)
        for number, layer in enumerate(layers):
            (self.names / str(number)).symlink_to(layer)


Command = list[str | Path]


@dataclass(frozen=True, slots=True)
class System:
    """One column of the table.

    ``commands`` make what is seen at ``layout.merged`` of the layers (the top one first).  ``mounts``: whether it is a mount.
    More than ``max_layers`` layers are not measured.
    """

    name: str
    title: str
    requires: tuple[str, ...]
    commands: Callable[[Layout, Sequence[Path]], list[Command]]
    mounts: bool = True
    max_layers: int | None = None

    def missing_program(self) -> str | None:
        """The first of the programs it needs that is not on PATH."""
        return next((program for program in self.requires if shutil.which(program) is None), None)


def _plain(layout: Layout, layers: Sequence[Path]) -> list[Command]:
    # From the bottom up, so that what a layer has replaces what the layers below it have.
    return [["cp", "-a", "--reflink=auto", f"{layer}/.", layout.merged] for layer in reversed(layers)]


def _kernel(layout: Layout, layers: Sequence[Path]) -> list[Command]:
    lowers = ":".join(str(number) for number in range(len(layers)))
    options = f"lowerdir={lowers},upperdir={layout.upper},workdir={layout.work},redirect_dir=on,index=off,metacopy=off"
    return [["mount", "-t", "overlay", "overlay", "-o", options, layout.merged]]


def _fuse_overlayfs(layout: Layout, layers: Sequence[Path]) -> list[Command]:
    lowers = ":".join(map(str, layers))
    return [["fuse-overlayfs", "-o", f"lowerdir={lowers},upperdir={layout.upper},workdir={layout.work}", layout.merged]]


def _unionfs_fuse(layout: Layout, layers: Sequence[Path]) -> list[Command]:
    # Those of the example in its manual, but for max_files, which needs CAP_SYS_RESOURCE; /.unionfs, its own, is hidden.
    options = "cow,hide_meta_files,allow_other,use_ino,suid,dev"
    branches = ":".join([f"{layout.upper}=RW", *(f"{layer}=RO" for layer in layers)])
    return [["unionfs-fuse", "-o", options, branches, layout.merged]]


def _ours(*arguments: str) -> Callable[[Layout, Sequence[Path]], list[Command]]:
    def commands(layout: Layout, layers: Sequence[Path]) -> list[Command]:
        lowers = [word for layer in layers for word in ("-l", layer)]
        program = [sys.executable, "-m", "unionfs.cli.main"]
        return [[*program, "mount", *arguments, *lowers, "-u", layout.upper, "-w", layout.work, layout.merged]]

    return commands


REFERENCE = "kernel"
"""What all others are compared with."""

OTHER = "fuse-overlayfs"
"""The union in userspace that the summary compares with as well."""

PLAIN = "plain"
"""Not a union: what the filesystem below them all can do."""

SYSTEMS: tuple[System, ...] = (
    System(PLAIN, "a plain directory", ("cp",), _plain, mounts=False, max_layers=20),
    System(REFERENCE, "the kernel's OverlayFS", ("mount",), _kernel),
    System(OTHER, "fuse-overlayfs", ("fuse-overlayfs",), _fuse_overlayfs),
    System("unionfs-fuse", "unionfs-fuse", ("unionfs-fuse",), _unionfs_fuse),
    System("direct", "unionfs, direct transport, passthrough", (), _ours("--transport", "direct", "--data-path", "passthrough")),
    System("direct-cached", "unionfs, direct transport, cached", (), _ours("--transport", "direct", "--data-path", "cached")),
    System("pyfuse3", "unionfs, pyfuse3 transport", (), _ours("--transport", "pyfuse3")),
)
