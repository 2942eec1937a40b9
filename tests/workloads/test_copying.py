"""rsync and tar carry a tree with everything on it into the union, out of a lower, and back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.behaviour.layers import Dir, File, Link, Symlink, Tree, build
from tests.behaviour.tree import Snapshot, differences

from .machine import Machine

ACL = bytes.fromhex("02000000 01000600 ffffffff 02000400 e8030000 04000400 ffffffff 10000400 ffffffff 20000400 ffffffff")
"""user::rw-, user:1000:r--, group::r--, mask::r--, other::r-- as system.posix_acl_access (uapi/linux/posix_acl_xattr.h)."""

TREE: Tree = {
    "plain": b"plain\n",
    "empty": b"",
    "owned": File(data=b"owned", mode=0o4711, uid=1234, gid=4321),
    "acl": File(data=b"acl", mode=0o644, xattrs={"system.posix_acl_access": ACL}),
    "attributed": File(data=b"x", xattrs={"user.colour": b"blue", "trusted.secret": b"\x00\xff"}),
    "sparse": File(extents={0: b"start", 1 << 20: b"end"}, size=2 << 20),
    "link": Link("plain"),
    "symlink": Symlink(target="directory/file0"),
    "dangling": Symlink(target="/nowhere"),
    "directory": Dir(mode=0o2750, gid=4321),
    **{f"directory/file{n}": bytes([n]) * (n * 300) for n in range(60)},
    "directory/deep/er/and/deeper": b"deep",
    "odd \xe9\n'name": b"odd",
}
RSYNC = ("rsync", "-aHAX", "--numeric-ids", "--modify-window=-1")  # -1: compare nanoseconds too

ENTRY_COUNT_OF_LOWER = 100
"""The least number of entries that the tree out of a lower must have to be a test worth its name."""


def same(one: Path, other: Path) -> list[str]:
    return differences(Snapshot.of(one), Snapshot.of(other))


@pytest.mark.timeout(300)
def test_rsync_mirrors_a_tree_and_then_its_changes(machine: Machine) -> None:
    directory = machine.make_directory("/rsync")
    source, mirror = directory / "source", directory / "mirror"
    build(source, TREE)
    rsync = (*RSYNC, "--delete")

    machine.run(*rsync, "/rsync/source/", "/rsync/mirror/")
    assert same(source, mirror) == []
    assert machine.run(*rsync, "--dry-run", "--itemize-changes", "/rsync/source/", "/rsync/mirror/") == ""

    (source / "plain").write_text("changed, and seen through the link too\n")
    (source / "directory/file3").unlink()
    shutil.rmtree(source / "directory/deep")
    (source / "directory/file4").rename(source / "moved")
    (source / "symlink").unlink()
    (source / "symlink").mkdir()
    os.setxattr(source / "owned", "user.new", b"1")
    machine.run(*rsync, "/rsync/source/", "/rsync/mirror/")
    assert same(source, mirror) == []


@pytest.mark.timeout(300)
def test_rsync_copies_a_lower_tree_and_back_over_it(machine: Machine) -> None:
    machine.make_directory("/rsync-lower")
    lower = machine.path("/usr/share/perl")
    machine.run(*RSYNC, "/usr/share/perl/", "/rsync-lower/perl/")
    before = Snapshot.of(machine.path("/rsync-lower/perl"))
    assert len(before.records) > ENTRY_COUNT_OF_LOWER
    assert differences(Snapshot.of(lower), before) == []
    # Written anew in full, over every lower file: a temporary file renamed onto a name that only a lower has.
    machine.run(*RSYNC, "--ignore-times", "--whole-file", "/rsync-lower/perl/", "/usr/share/perl/")
    # On the kernel's OverlayFS too, now and then a directory keeps the time of its last rename; the second run sets it right.
    assert "f" not in {line[1:2] for line in machine.run(*RSYNC, "-i", "/rsync-lower/perl/", "/usr/share/perl/").splitlines()}
    assert differences(before, Snapshot.of(lower)) == []
    assert (machine.upper / "usr/share/perl").is_dir()


@pytest.mark.timeout(300)
def test_tar_round_trip_leaves_the_same_tree(machine: Machine) -> None:
    directory = machine.make_directory("/tar")
    build(directory / "source", TREE)
    pack = ("tar", "--create", "--sparse", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner")
    unpack = ("tar", "--extract", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-permissions")
    machine.run(*pack, "--file=/tar/one.tar", "--directory=/tar/source", ".")
    (directory / "copy").mkdir()
    machine.run(*unpack, "--file=/tar/one.tar", "--directory=/tar/copy")
    assert same(directory / "source", directory / "copy") == []
    machine.run("tar", "--compare", "--acls", "--xattrs", "--file=/tar/one.tar", "--directory=/tar/copy")


@pytest.mark.timeout(300)
def test_tar_of_a_lower_tree_unpacks_to_the_same_tree(machine: Machine) -> None:
    directory = machine.make_directory("/tar-lower")
    machine.run("tar", "--create", "--format=pax", "--file=/tar-lower/doc.tar", "--directory=/usr/share", "doc")
    machine.run("tar", "--extract", "--file=/tar-lower/doc.tar", "--directory=/tar-lower", "--same-permissions")
    assert len(Snapshot.of(directory / "doc").records) > ENTRY_COUNT_OF_LOWER
    assert same(machine.path("/usr/share/doc"), directory / "doc") == []
