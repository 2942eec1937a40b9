"""The Debian workloads: what they say where there is no root filesystem."""

from __future__ import annotations

from pathlib import Path

import pytest

from unionfs.bench.corpora import Corpora
from unionfs.bench.errors import BenchError
from unionfs.bench.workloads import debian


@pytest.fixture
def corpora(tmp_path: Path) -> Corpora:
    directory = tmp_path / "corpora"
    directory.mkdir()
    return Corpora(directory)


def test_root_filesystem_that_cannot_be_made_is_a_reason_not_to_measure(
    tmp_path: Path, corpora: Corpora, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "rootfs"
    script.write_text("#!/bin/sh\necho trying >&2\necho rootfs: no network >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(debian, "_ROOTFS_SCRIPT", script)
    with pytest.raises(BenchError, match=r"^rootfs: exit status 1: .*rootfs: no network$"):
        debian.copy_rootfs(corpora)


def test_without_a_checkout_is_no_root_filesystem(tmp_path: Path, corpora: Corpora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_ROOTFS_SCRIPT", tmp_path / "scripts/rootfs")
    with pytest.raises(BenchError, match="run from a checkout"):
        debian.copy_rootfs(corpora)


def test_root_filesystem_is_copied_as_it_is(tmp_path: Path, corpora: Corpora, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made/etc").mkdir(parents=True)
    (tmp_path / "made/etc/motd").write_text("hello\n")
    (tmp_path / "made/etc/motd").chmod(0o604)
    (tmp_path / "made/bin").symlink_to("usr/bin")
    script = tmp_path / "rootfs"
    script.write_text(f'#!/bin/sh\n[ "$*" = --debian-only ] && echo {tmp_path}/made\n')
    script.chmod(0o755)
    monkeypatch.setattr(debian, "_ROOTFS_SCRIPT", script)
    layer = debian.copy_rootfs(corpora)
    assert (layer / "etc/motd").read_text() == "hello\n"
    assert (layer / "etc/motd").stat().st_mode & 0o777 == 0o604
    assert (layer / "bin").readlink() == Path("usr/bin")
