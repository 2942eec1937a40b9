"""Small tars in memory."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> Entry:
    """An entry; ``fields`` are those of `tarfile.TarInfo`."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(content), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def directory(name: str, **fields: object) -> Entry:
    return entry(name, kind=tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.LNKTYPE, linkname=target)


def xattrs(**values: bytes) -> Mapping[str, str]:
    """PAX headers of attributes; ``__`` in a name stands for a dot."""
    return {f"SCHILY.xattr.{name.replace('__', '.')}": value.decode("utf-8", "surrogateescape") for name, value in values.items()}


def tar_of(*entries: Entry, format_: int = tarfile.PAX_FORMAT) -> bytes:
    """The tar of ``entries``, as they are: what no program would write too."""
    chunks = []
    for info, content in entries:
        chunks += [info.tobuf(format_, "utf-8", "surrogateescape"), content, bytes(-len(content) % 512)]
    return b"".join(chunks) + bytes(1024)


def stream(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)


def joined(chunks: Iterable[bytes]) -> bytes:
    return b"".join(chunks)
