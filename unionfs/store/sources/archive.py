"""Importing an image from whatever it is in, told by what it holds, not by its name."""

from __future__ import annotations

import contextlib
import posixpath
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from unionfs.store.compression import compression_of, decompressed
from unionfs.store.documents import MAX_SIZE, parse_json
from unionfs.store.errors import CorruptError, NotFoundError, StoreError
from unionfs.store.images import Image
from unionfs.store.leases import adding
from unionfs.store.progress import NoProgress, Progress
from unionfs.store.reference import Reference
from unionfs.store.sources import docker_archive, oci_layout, rootfs
from unionfs.store.sources.files import ArchiveFiles, DirectoryFiles, Files, ForwardHeaders, reading_tar
from unionfs.store.sources.image_source import ImageSource, add_image
from unionfs.store.store import Store

_OTHER_COMPRESSIONS = {b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}


def import_image(
    store: Store, source: Path, name: Reference | None, progress: Progress | None = None, *, selected: str | None = None
) -> Image:
    """Bring an image into the store and give it ``name``.

    ``source``: an OCI layout (directory, or tar), an archive of docker save, or a root filesystem (tar or directory); the tars
    may
    be compressed with gzip or zstd.  ``selected``: which one, by the name that the source has for it, where there are several.
    Killed at any moment, it leaves nothing behind that could be seen.

    Raises:
        NotFoundError: there is no such source, or not that image in it.
        CorruptError: it is damaged; the error names what in it.
        StoreError: it cannot be taken.
        OSError: it cannot be read, or the store not be written.
    """
    progress = progress or NoProgress()
    with adding(store.root):
        if source.is_dir():
            return _import_directory(store, source, name, progress, selected)
        return _import_file(store, source, name, progress, selected)


def _import_directory(store: Store, source: Path, name: Reference | None, progress: Progress, selected: str | None) -> Image:
    image = _recognized(DirectoryFiles(source), selected)
    if image is not None:
        return add_image(store, image, name, progress)
    _refuse_selection(source, selected)
    return rootfs.import_directory(store, source, name, progress)


def _import_file(store: Store, source: Path, name: Reference | None, progress: Progress, selected: str | None) -> Image:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_open(source))
        if compression_of(file.read(4)) != "plain":
            file.seek(0)
            if not _has_mark(file, source):
                file.seek(0)
                _refuse_selection(source, selected)
                return rootfs.import_tar(store, file, source, name, progress)
            file = stack.enter_context(_unpacked(store, file, source, progress))
        _refuse_other_compression(file, source)
        image = _recognized(ArchiveFiles(file, str(source)), selected)
        if image is not None:
            return add_image(store, image, name, progress)
        _refuse_selection(source, selected)
        file.seek(0)
        return rootfs.import_tar(store, file, source, name, progress)


def _open(source: Path) -> BinaryIO:
    try:
        return open(source, "rb")
    except FileNotFoundError as error:
        raise NotFoundError(str(source), "no such file or directory", "name an archive or a directory") from error


def _recognized(files: Files, selected: str | None) -> ImageSource | None:
    # An archive of docker save since docker 25 is an OCI layout as well, and that one has digests.
    if oci_layout.is_oci_layout(files):
        return oci_layout.read_oci_layout(files, selected)
    if docker_archive.is_docker_archive(files):
        return docker_archive.read_docker_archive(files, selected)
    return None


def _has_mark(file: BinaryIO, source: Path) -> bool:
    """Whether a compressed tar is an image archive.  Read as a stream: a root filesystem is not to be written out for that."""
    headers = cast(BinaryIO, ForwardHeaders(decompressed(file, str(source))))
    with reading_tar(str(source)), tarfile.TarFile(fileobj=headers, mode="r") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or it would remember all of them
            if _is_mark(archive, member):
                return True
    return False


def _is_mark(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    marks = {oci_layout.MARK: _is_oci, docker_archive.MARK: docker_archive.is_manifest}
    judge = marks.get(posixpath.normpath(member.name))
    if judge is None or not member.isreg() or member.size > MAX_SIZE:
        return False
    content = archive.extractfile(member)
    assert content is not None
    with contextlib.suppress(CorruptError):
        return judge(parse_json(content.read(), member.name))
    return False


def _is_oci(document: object) -> bool:
    return isinstance(document, dict) and "imageLayoutVersion" in document


def _unpacked(store: Store, file: BinaryIO, source: Path, progress: Progress) -> BinaryIO:
    """The archive without its compression, in a file that has no name: nothing is left of it whatever happens."""
    file.seek(0)
    tell = progress.begin(f"{source.name}: decompressing", None)
    plain = tempfile.TemporaryFile(dir=store.staging)  # noqa: SIM115 - the caller closes it
    try:
        stream = decompressed(file, str(source))
        while chunk := stream.read(1 << 20):
            plain.write(chunk)
            tell(len(chunk))
        plain.flush()
    except BaseException:
        plain.close()
        raise
    return cast(BinaryIO, plain)


def _refuse_other_compression(file: BinaryIO, source: Path) -> None:
    file.seek(0)
    head = file.read(6)
    for magic, name in _OTHER_COMPRESSIONS.items():
        if head.startswith(magic):
            raise StoreError(str(source), f"compressed with {name}", f"decompress it first ({name} -dk), or use gzip or zstd")


def _refuse_selection(source: Path, selected: str | None) -> None:
    if selected is not None:
        raise NotFoundError(
            str(source), f"is a root filesystem, not an archive that could have an image {selected}", "leave --image out"
        )
