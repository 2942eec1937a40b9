"""What an export is written to: a tar or a directory, which shows up under its name when it is complete."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from unionfs.store.staging import sync
from unionfs.store.unfinished import umask, unfinished_directory, unfinished_file

_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o755


class Target(Protocol):
    """``workspace``: a directory for temporary files, on the filesystem of the target."""

    workspace: Path

    def directory(self, name: str) -> None:
        """Make a directory in it."""

    def file(self, name: str, size: int, content: BinaryIO) -> None:
        """Write a file of ``size`` bytes."""


class _Tar:
    def __init__(self, file: BinaryIO, workspace: Path) -> None:
        self.workspace = workspace
        # GNU: sizes above 8 GiB without the PAX headers that would come in between.
        self._archive = tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115

    def close(self) -> None:
        self._archive.close()

    def directory(self, name: str) -> None:
        member = tarfile.TarInfo(name)
        member.type = tarfile.DIRTYPE
        member.mode = _DIRECTORY_MODE
        self._archive.addfile(member)

    def file(self, name: str, size: int, content: BinaryIO) -> None:
        member = tarfile.TarInfo(name)
        member.size = size
        member.mode = _FILE_MODE
        self._archive.addfile(member, content)
        # A layer's content is checked at its end, which addfile() does not read up to.
        assert not content.read(1)


class _Directory:
    def __init__(self, directory: Path) -> None:
        self.workspace = directory
        self._directory = directory

    def directory(self, name: str) -> None:
        (self._directory / name).mkdir()

    def file(self, name: str, size: int, content: BinaryIO) -> None:
        with open(self._directory / name, "xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
            assert file.tell() == size


@contextlib.contextmanager
def tar_target(target: Path) -> Iterator[Target]:
    """A tar at ``target``, once all is written.

    Raises:
        ExistsError: there is something.
        OSError: it cannot be written.
    """
    with unfinished_file(target) as fd, open(fd, "wb", closefd=False) as file:
        tar = _Tar(cast(BinaryIO, file), target.parent)
        yield tar
        tar.close()


@contextlib.contextmanager
def directory_target(target: Path) -> Iterator[Target]:
    """A directory at ``target``, once all is written.

    Raises:
        ExistsError: there is something.
        OSError: it cannot be written.
    """
    with unfinished_directory(target) as directory:
        yield _Directory(directory)
        directory.chmod(_DIRECTORY_MODE & ~umask())
        sync(directory)
