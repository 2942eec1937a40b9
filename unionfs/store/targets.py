"""What an export is written to: a tar or a directory, which shows up under its name when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from unionfs.linux.rename import RENAME_NOREPLACE, renameat2
from unionfs.store.errors import ExistsError
from unionfs.store.staging import sync

_AT_FDCWD = -100
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
    _refuse_existing(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    with _removed_on_failure(Path(name)), open(handle, "wb") as file:
        tar = _Tar(cast(BinaryIO, file), target.parent)
        yield tar
        tar.close()
        file.flush()
        os.fchmod(file.fileno(), _FILE_MODE & ~_umask())
        os.fsync(file.fileno())
        _publish(Path(name), target)


@contextlib.contextmanager
def directory_target(target: Path) -> Iterator[Target]:
    """A directory at ``target``, once all is written.

    Raises:
        ExistsError: there is something.
        OSError: it cannot be written.
    """
    _refuse_existing(target)
    directory = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    with _removed_on_failure(directory):
        yield _Directory(directory)
        directory.chmod(_DIRECTORY_MODE & ~_umask())
        sync(directory)
        _publish(directory, target)


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        raise


def _publish(made: Path, target: Path) -> None:
    try:
        renameat2(_AT_FDCWD, os.fsencode(made), _AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Filesystems without the flag (NFS): between looking and renaming somebody else's file could come, and would be lost.
        _refuse_existing(target)
        made.rename(target)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise _exists(target)


def _exists(target: Path) -> ExistsError:
    return ExistsError(str(target), "is there already", "name another file, or remove it first")


def _umask() -> int:
    # There is no other way to ask for it; nobody else makes files in this process meanwhile.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
