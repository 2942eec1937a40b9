"""Files without a name: made with O_TMPFILE, perhaps given a name later."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client
from tests.overlay.conftest import Open
from unionfs.filesystem import ROOT_ID, Caller


def make(client: Client, parent: int = ROOT_ID, mode: int = 0o644, caller: Caller = ROOT) -> int:
    entry, opened = client.call(client.union.tmpfile, parent, mode, caller)
    assert opened.generation == 1
    assert entry.attr.nlink == 0
    return entry.node


def test_has_no_name_on_disk_and_is_gone_when_the_kernel_forgets_it(open_union: Open, tmp_path: Path) -> None:
    client = open_union({})
    descriptors = len(os.listdir("/proc/self/fd"))
    inodes = client.union.statistics()["inodes"]
    node = make(client)
    assert client.union.write(node, 0, b"data") == 4
    assert client.union.read(node, 0, 10) == b"data"
    assert client.union.getattr(node).size == 4
    assert os.listdir(tmp_path / "upper") == []
    assert os.listdir(tmp_path / "work/work") == []
    client.union.forget(node, 1)
    assert client.union.statistics()["inodes"] == inodes
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_link_gives_it_a_name_and_the_same_node(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"d": None})
    node = make(client)
    client.union.write(node, 0, b"data")
    entry = client.call(client.union.link, node, *client.place("d/f"))
    assert (entry.node, entry.attr.nlink) == (node, 1)
    assert client.node("d/f") == node
    assert client.call(client.union.link, node, *client.place("g")).attr.nlink == 2
    assert (tmp_path / "upper/d/f").read_bytes() == b"data"
    assert client.names("") == [b"d", b"g"]


def test_takes_the_place_of_a_whiteout(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"lower"})
    client.unlink("f")
    node = make(client)
    client.call(client.union.link, node, ROOT_ID, b"f")
    assert stat.S_ISREG((tmp_path / "upper/f").stat().st_mode)
    assert client.read("f") == b""
    client.unlink("f")
    assert client.names("") == []


def test_name_that_is_taken_is_eexist_and_the_file_stays_without_one(open_union: Open) -> None:
    client = open_union({"f": b"lower"})
    node = make(client)
    with pytest.raises(FileExistsError):
        client.call(client.union.link, node, ROOT_ID, b"f")
    assert client.union.getattr(node).nlink == 0


def test_data_outlives_the_closing_of_its_descriptor_by_the_pool(open_union: Open) -> None:
    client = open_union({f"f{number}": b"x" for number in range(30)}, pool_limit=8)
    node = make(client)
    client.union.write(node, 0, b"data")
    for number in range(30):
        client.read(f"f{number}")
    assert client.union.read(node, 0, 10) == b"data"
    client.union.write(node, 4, b" and more")
    assert client.union.getattr(node).size == 13


def test_belongs_to_the_caller_and_the_umask_counts(open_union: Open) -> None:
    client = open_union({})
    attr = client.union.getattr(make(client, mode=0o6666, caller=Caller(1000, 1001, 1, 0o27)))
    assert (attr.uid, attr.gid, attr.mode) == (1000, 1001, stat.S_IFREG | 0o6640)


def test_group_comes_from_a_directory_with_sgid(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"d": None})
    os.chown(tmp_path / "lower0/d", 0, 500)
    (tmp_path / "lower0/d").chmod(0o2755)
    assert client.union.getattr(make(client, client.node("d"), caller=Caller(1000, 1001, 1, 0))).gid == 500
    assert (tmp_path / "upper/d").is_dir()


def test_union_without_an_upper_is_read_only(open_union: Open) -> None:
    client = open_union({}, writable=False)
    with pytest.raises(OSError, match="ead-only") as caught:
        make(client)
    assert caught.value.errno == errno.EROFS
