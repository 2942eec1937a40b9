"""No entry leaves the layer, and a damaged archive is told from a sound one."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.store.archive.conftest import Bench
from tests.store.tars import Entry, directory, entry, hard_link, symlink, tar_of
from unionfs.store.errors import CorruptError, RefusedEntryError


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "secret").write_text("secret")
    return made


def archives(outside: str) -> dict[str, tuple[list[Entry], str]]:
    """What is tried → (entries, the entry that the error names)."""
    return {
        "absolute path": ([entry("/etc/passwd", b"x")], "/etc/passwd"),
        "dot dot": ([entry("../outside/new", b"x")], "../outside/new"),
        "dot dot in the middle": ([directory("d"), entry("d/../../outside/new", b"x")], "d/../../outside/new"),
        "below a symbolic link": ([symlink("l", outside), entry("l/new", b"x")], "l/new"),
        "below a relative symbolic link": ([symlink("l", "../outside"), entry("l/new", b"x")], "l/new"),
        "directory below a symbolic link": ([symlink("l", outside), entry("l/new/deeper", b"x")], "l/new/deeper"),
        "below a link that an entry replaced": ([directory("d"), symlink("d", outside), entry("d/new", b"x")], "d/new"),
        "below a file": ([entry("f", b"x"), entry("f/new", b"x")], "f/new"),
        "hard link to an absolute path": ([hard_link("h", f"{outside}/secret")], "h"),
        "hard link by dot dot": ([hard_link("h", "../outside/secret")], "h"),
        "hard link through a symbolic link": ([symlink("l", outside), hard_link("h", "l/secret")], "h"),
        "hard link to nothing": ([hard_link("h", "missing")], "h"),
        "hard link to a directory": ([directory("d"), hard_link("h", "d")], "h"),
        "hard link to a whiteout": ([entry(".wh.w", b""), hard_link("h", "w")], "h"),
        "hard link to the root": ([hard_link("h", ".")], "h"),
        "whiteout of dot dot": ([entry(".wh...", b"")], ".wh..."),
        "whiteout of dot": ([entry(".wh..", b"")], ".wh.."),
        "whiteout of nothing": ([entry(".wh.", b"")], ".wh."),
        "whiteout below a symbolic link": ([symlink("l", outside), entry("l/.wh.secret", b"")], "l/.wh.secret"),
        "opaque marker below a symbolic link": ([symlink("l", outside), entry("l/.wh..wh..opq", b"")], "l/.wh..wh..opq"),
        "root that is no directory": ([entry(".", b"x")], "."),
        "name that is too long": ([entry("n" * 256, b"x")], "n" * 256),
        "name with a NUL": ([entry("f", b"x", pax_headers={"path": "a\0b"})], "a\\x00b"),
        "unknown type": ([entry("f", b"", kind=b"Z")], "f"),
        "device that would be a whiteout": ([entry("c", b"", kind=tarfile.CHRTYPE)], "c"),
    }


@pytest.mark.parametrize("what", list(archives("")))
def test_entry_that_leaves_the_layer_is_refused_by_name(bench: Bench, outside: Path, what: str) -> None:
    entries, name = archives(str(outside))[what]
    with pytest.raises(RefusedEntryError) as refused:
        bench.unpack(entry("before", b"x"), *entries)
    assert "some.tar" in refused.value.thing
    assert name in refused.value.thing.replace("\\\\", "\\")
    assert os.listdir(outside) == ["secret"]
    assert os.listxattr(outside) == []


def test_link_made_while_the_archive_is_unpacked_is_not_followed(bench: Bench, outside: Path) -> None:
    # Many entries in one directory use its descriptor again; it must not survive that the directory is replaced.
    with pytest.raises(RefusedEntryError):
        bench.unpack(directory("d"), entry("d/a", b"x"), symlink("d", str(outside)), entry("d/b", b"x"))
    assert os.listdir(outside) == ["secret"]


def test_device_is_refused_to_users(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(
        tar_of(directory("dev"), entry("dev/null", b"", kind=tarfile.CHRTYPE, devmajor=1, devminor=3))
    )
    (tmp_path / "diff").mkdir()
    os.chmod(tmp_path, 0o777)  # noqa: S103  # the process below is another user
    os.chmod(tmp_path / "diff", 0o777)  # noqa: S103
    program = """
import os, sys
from pathlib import Path
from unionfs.store.unpack import unpack_layer
directory = Path(sys.argv[1])
os.chdir(directory); os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    unpack_layer(open("a.tar", "rb"), Path("diff"), Path("recipe"), thing="a.tar")
except Exception as error:
    print(type(error).__name__, error)
"""
    # The directories above tmp_path are root's alone, so the current directory is taken along.
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("RefusedEntryError a.tar: 'dev/null': a device, which only root may make"), (
        done.stdout + done.stderr
    )


# -- damage ---------------------------------------------------------------------------------------------------------------


def sound() -> bytes:
    return tar_of(directory("d"), entry("d/f", b"content" * 500), entry("e" * 150, b"x"), symlink("l", "d/f"))


def test_every_truncation_is_told(tmp_path: Path) -> None:
    data = sound()
    for number, length in enumerate(range(0, len(data) - 1024, 256)):
        place = tmp_path / str(number)
        with pytest.raises(CorruptError, match=r"some\.tar"):
            Bench(place).unpack_bytes(data[:length])


def test_damaged_header_in_the_middle_is_told(bench: Bench) -> None:
    data = bytearray(sound())
    data[512 + 20] ^= 0xFF
    with pytest.raises(CorruptError, match=r"some\.tar"):
        bench.unpack_bytes(bytes(data))


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, bytes(range(256)) * 8], ids=["nothing", "text", "noise"])
def test_what_is_no_tar_is_told(bench: Bench, data: bytes) -> None:
    with pytest.raises(CorruptError, match=r"some\.tar"):
        bench.unpack_bytes(data)


def test_tar_without_entries_is_an_empty_layer(bench: Bench) -> None:
    assert bench.unpack_bytes(bytes(1024)).entries == 0
    assert os.listdir(bench.diff) == []


def test_header_that_claims_gigabytes_of_names_is_told(bench: Bench) -> None:
    info = tarfile.TarInfo("f")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    with pytest.raises(CorruptError, match=r"some\.tar"):
        bench.unpack_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_piece_of_a_sparse_file_outside_of_it_is_told(bench: Bench) -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": "10"}
    content = b"1\n100\n512\n".ljust(512, b"\0") + bytes(512)
    with pytest.raises(CorruptError, match=r"some\.tar"):
        bench.unpack(entry("GNUSparseFile.0/f", content, pax_headers=headers))


def test_impossible_owner_is_told(bench: Bench) -> None:
    with pytest.raises(CorruptError, match="owner"):
        bench.unpack(entry("f", b"", pax_headers={"uid": "-5"}))
