"""Ids that are mapped or squashed: what is shown, and what is stored."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from tests.overlay.client import Client, stack
from tests.overlay.conftest import Open
from tests.overlay.idmapped import idmapped
from unionfs.filesystem import SET_GID, SET_MODE, SET_UID, Attr, Caller, Changes, StaleAttributes
from unionfs.overlay import Options, OwnerOptions, Stack, Union
from unionfs.overlay.id_map import IdMap, IdMaps, IdRange
from unionfs.overlay.ino_map import ShortInoMap

MAPPED = Options(owners=OwnerOptions(uids=(IdRange(0, 100000, 1000),), gids=(IdRange(0, 200000, 1000),)))
CALLER = Caller(100005, 200006, 1, 0o022)
ACL = "system.posix_acl_access"


def owner(attr: Attr) -> tuple[int, int]:
    return attr.uid, attr.gid


def real_owner(path: Path) -> tuple[int, int]:
    st = path.lstat()
    return st.st_uid, st.st_gid


def chown(client: Client, path: str, uid: int | None, gid: int | None) -> Attr:
    valid = (SET_UID if uid is not None else 0) | (SET_GID if gid is not None else 0)
    return client.call(client.union.setattr, client.node(path), Changes(valid, uid=uid or 0, gid=gid or 0), CALLER)


def acl_of(*owners: tuple[int, int]) -> bytes:
    """user::rwx, then the (tag, id) given, mask and other."""
    entries = [(1, 7, 0xFFFFFFFF), *((tag, 4, owner) for tag, owner in owners), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF)]
    entries = sorted([*entries, (32, 0, 0xFFFFFFFF)], key=lambda entry: entry[0])
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


# -- the map itself ---------------------------------------------------------------------------------------------------------


def test_ids_of_several_ranges_go_both_ways_and_the_rest_overflows() -> None:
    ids = IdMap((IdRange(0, 1000, 1), IdRange(1, 110000, 65536)), None, 65534)
    assert [ids.shown(stored) for stored in (0, 1, 65536, 65537)] == [1000, 110000, 175535, 65534]
    assert [ids.stored(shown) for shown in (1000, 110000, 175535, 175536, 0, 1001)] == [0, 1, 65536, 65534, 65534, 65534]


def test_without_ranges_ids_stay() -> None:
    assert IdMap().shown(7) == IdMap().stored(7) == 7


def test_squashing_is_for_what_is_shown_only() -> None:
    ids = IdMap((IdRange(0, 1000, 10),), 5, 65534)
    assert (ids.shown(3), ids.shown(77), ids.stored(1003)) == (5, 5, 3)


def test_acl_that_is_malformed_is_left_to_the_filesystem() -> None:
    maps = IdMaps(IdMap((IdRange(0, 1000, 10),)), IdMap())
    assert [maps.stored_acl(value) for value in (b"", b"xx", b"\2\0\0\0half")] == [b"", b"xx", b"\2\0\0\0half"]


# -- mapped -----------------------------------------------------------------------------------------------------------------


def test_owners_of_all_kinds_in_all_layers_are_shown_mapped(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"", "d": None}, options=MAPPED)
    os.symlink("x", tmp_path / "upper/l")
    os.mkfifo(tmp_path / "upper/p")
    for number, name in enumerate(("lower0/f", "lower0/d", "upper/l", "upper/p"), 1):
        os.chown(tmp_path / name, number, number + 10, follow_symlinks=False)
    assert [owner(client.attr(name)) for name in ("", "f", "d", "l", "p")] == [
        (100000, 200000),
        (100001, 200011),
        (100002, 200012),
        (100003, 200013),
        (100004, 200014),
    ]


def test_owner_that_is_not_mapped_is_shown_as_the_overflow_id(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=MAPPED)
    os.chown(tmp_path / "lower0/f", 1000, 1)
    assert owner(client.attr("f")) == (65534, 200001)


def test_new_objects_are_stored_with_the_ids_of_their_maker_mapped_back(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"hidden": b""}, options=MAPPED)
    union = client.union
    client.unlink("hidden")
    root = client.node("")
    made = [
        client.call(union.create, root, b"f", os.O_WRONLY, 0o644, CALLER)[0],
        client.call(union.mkdir, root, b"d", 0o755, CALLER),
        client.call(union.symlink, root, b"l", b"target", CALLER),
        client.call(union.mknod, root, b"p", stat.S_IFIFO | 0o600, 0, CALLER),
        client.call(union.mkdir, root, b"hidden", 0o755, CALLER),
        client.call(union.tmpfile, root, 0o600, CALLER)[0],
    ]
    assert {owner(entry.attr) for entry in made} == {(100005, 200006)}
    assert {real_owner(path) for path in (tmp_path / "upper").iterdir()} == {(5, 6)}
    assert len(os.listdir(tmp_path / "upper")) == 5


def test_group_of_a_set_gid_directory_is_not_mapped_twice(open_union: Open, tmp_path: Path) -> None:
    client = open_union({}, options=MAPPED)
    os.mkdir(tmp_path / "upper/d")
    os.chown(tmp_path / "upper/d", 0, 50)
    (tmp_path / "upper/d").chmod(0o2755)
    entry, _ = client.call(client.union.create, client.node("d"), b"f", os.O_WRONLY, 0o644, CALLER)
    assert owner(entry.attr) == (100005, 200050)
    assert real_owner(tmp_path / "upper/d/f") == (5, 50)


def test_chown_is_mapped_back(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=MAPPED)
    assert owner(chown(client, "f", 100007, None)) == (100007, 200000)
    assert owner(chown(client, "f", None, 200008)) == (100007, 200008)
    assert real_owner(tmp_path / "upper/f") == (7, 8)


def test_chown_to_an_id_that_is_not_mapped_stores_the_overflow_id(open_union: Open, tmp_path: Path) -> None:
    # As fuse-overlayfs: whoever manages the containers works in the mount with ids that are not in the mapping.
    client = open_union({"f": b""}, options=MAPPED)
    assert owner(chown(client, "f", 5, 200001)) == (65534, 200001)
    assert real_owner(tmp_path / "upper/f") == (65534, 1)


def test_copy_up_keeps_the_stored_owner_even_one_that_is_not_mapped(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"d/f": b"", "d/g": b""}, options=MAPPED)
    os.chown(tmp_path / "lower0/d", 3, 4)
    os.chown(tmp_path / "lower0/d/f", 70000, 9)
    client.chmod("d/f", 0o4755)
    assert real_owner(tmp_path / "upper/d/f") == (70000, 9)
    assert real_owner(tmp_path / "upper/d") == (3, 4)
    assert stat.S_IMODE((tmp_path / "upper/d/f").stat().st_mode) == 0o4755
    assert owner(client.attr("d/f")) == (65534, 200009)


def test_readdirplus_agrees_with_getattr(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"", "d": None}, options=MAPPED)
    os.chown(tmp_path / "lower0/f", 3, 4)
    rows = {row.name: row for row in client.call(client.union.readdirplus, 1, 0)}
    for name in ("f", "d"):
        entry = rows[name.encode()].entry
        assert entry is not None
        assert entry.attr == client.attr(name)
    assert owner(client.attr("f")) == (100003, 200004)


def test_ids_in_acls_are_mapped_both_ways(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=MAPPED)
    os.setxattr(tmp_path / "lower0/f", ACL, acl_of((2, 5), (8, 6), (2, 5000)))
    union, node = client.union, client.node("f")
    assert client.call(union.getxattr, node, ACL.encode()) == acl_of((2, 100005), (8, 200006), (2, 65534))
    client.call(union.setxattr, node, ACL.encode(), acl_of((2, 100009), (8, 200009)), 0)
    assert os.getxattr(tmp_path / "upper/f", ACL) == acl_of((2, 9), (8, 9))


def test_lower_on_an_idmapped_mount_is_not_mapped_again(tmp_path: Path) -> None:
    # podman makes such mounts of the image's layers for --uidmap, and passes uidmapping as well.
    layers = stack(tmp_path, {"f": b"", "foreign": b""})
    lower, bound = tmp_path / "lower0", tmp_path / "bound"
    bound.mkdir()
    os.chown(lower / "f", 5, 6)
    os.chown(lower / "foreign", 70000, 6)
    os.setxattr(lower / "f", ACL, acl_of((2, 7)))
    both = (IdRange(0, 100000, 1000),)
    with idmapped(lower, bound, 100000, 1000):
        union = Union(Stack((bound,), layers.upper, layers.work), Options(owners=OwnerOptions(uids=both, gids=both)))
        client = Client(union)
        assert owner(client.attr("f")) == (100005, 100006)
        assert owner(client.attr("foreign")) == (65534, 100006)
        assert client.call(union.getxattr, client.node("f"), ACL.encode()) == acl_of((2, 100007))
        client.write("f", b"x")
        client.write("foreign", b"x")
        assert real_owner(tmp_path / "upper/f") == (5, 6)
        assert real_owner(tmp_path / "upper/foreign") == (65534, 6)
        assert os.getxattr(tmp_path / "upper/f", ACL) == acl_of((2, 7))
        assert owner(client.attr("f")) == (100005, 100006)
        assert client.call(union.getxattr, client.node("f"), ACL.encode()) == acl_of((2, 100007))
        union.close()


def test_set_id_bits_go_with_a_chown_as_always(open_union: Open) -> None:
    client = open_union({"f": b""}, options=MAPPED)
    client.chmod("f", 0o6755)
    assert stat.S_IMODE(chown(client, "f", 100001, 200001).mode) == 0o755
    changes = Changes(SET_UID | SET_MODE, mode=0o4711, uid=100002)
    assert stat.S_IMODE(client.call(client.union.setattr, client.node("f"), changes, CALLER).mode) == 0o4711


# -- squashed -----------------------------------------------------------------------------------------------------------------


def test_squashed_owners_are_shown_and_the_others_stored(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"", "g": b""}, options=Options(owners=OwnerOptions(squash_uid=42, squash_gid=0)))
    os.chown(tmp_path / "lower0/f", 7, 8)
    assert owner(client.attr("f")) == (42, 0)
    client.chmod("f", 0o600)
    assert owner(chown(client, "g", 3, 4)) == (42, 0)
    assert real_owner(tmp_path / "upper/f") == (7, 8)
    assert real_owner(tmp_path / "upper/g") == (3, 4)


def test_chown_that_is_not_permitted_drops_the_set_id_bits_as_any_other(
    open_union: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    client = open_union({"f": b""}, options=Options(owners=OwnerOptions(squash_uid=42)))
    client.chmod("f", 0o6755)
    monkeypatch.setattr(os, "chown", refuse)
    assert chown(client, "f", 7, 8).mode == stat.S_IFREG | 0o755
    assert real_owner(tmp_path / "upper/f") == (0, 0)
    plain = open_union({"g": b""}, options=Options())
    with pytest.raises(PermissionError):
        chown(plain, "g", 7, 8)


def test_one_kind_of_id_may_be_squashed_alone(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=Options(owners=OwnerOptions(squash_gid=9)))
    os.chown(tmp_path / "lower0/f", 7, 8)
    assert owner(client.attr("f")) == (7, 9)


def test_ids_in_acls_are_not_squashed(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=Options(owners=OwnerOptions(squash_uid=42)))
    os.setxattr(tmp_path / "lower0/f", ACL, acl_of((2, 5)))
    assert client.call(client.union.getxattr, client.node("f"), ACL.encode()) == acl_of((2, 5))


# -- the other options of fuse-overlayfs ----------------------------------------------------------------------------------------


def test_static_nlink_shows_one_link_of_every_directory(open_union: Open) -> None:
    client = open_union({"d/e/f": b"", "d/g/h": b""}, writable=False, options=Options(static_nlink=True))
    assert [client.attr(path).nlink for path in ("", "d", "d/e", "d/e/f")] == [1, 1, 1, 1]
    gone = open_union({}, options=Options(static_nlink=True))
    node = gone.mkdir("x").node
    gone.rmdir("x")
    assert gone.call(gone.union.getattr, node).nlink == 0


def test_without_static_nlink_a_directory_in_one_layer_has_the_links_of_its_filesystem(open_union: Open) -> None:
    client = open_union({"d/e/f": b"", "d/g/h": b""}, options=Options())
    assert client.attr("d").nlink == 4


def test_without_xattrs_users_are_told_that_there_are_none(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=Options(xattrs=False))
    os.setxattr(tmp_path / "lower0/f", "user.kept", b"1")
    union, node = client.union, client.node("f")
    for method, *arguments in (
        (union.getxattr, b"user.kept"),
        (union.setxattr, b"user.new", b"", 0),
        (union.listxattr, CALLER),
        (union.removexattr, b"user.kept"),
    ):
        with pytest.raises(OSError, match="not implemented"):
            client.call(method, node, *arguments)
    assert not (tmp_path / "upper/f").exists()
    client.chmod("f", 0o600)
    assert os.getxattr(tmp_path / "upper/f", "user.kept") == b"1"
    assert not union.has_acl


def test_kernel_that_does_not_heed_acls_is_told_that_one_changed_the_mode(open_union: Open) -> None:
    for options, told in ((Options(acl=False), True), (Options(), False)):
        client = open_union({}, options=options)
        client.write("f", b"")
        union, node = client.union, client.node("f")
        union.notices.clear()
        client.call(union.setxattr, node, b"user.x", b"", 0)
        assert union.notices == []
        client.call(union.setxattr, node, ACL.encode(), acl_of((2, 5)), 0)
        assert union.notices == ([StaleAttributes(node)] if told else [])
        union.notices.clear()
        client.call(union.removexattr, node, ACL.encode())
        assert union.notices == ([StaleAttributes(node)] if told else [])
        client.unlink("f")


def test_numbers_fit_in_32_bits_and_stay_distinct() -> None:
    numbers = ShortInoMap([1])
    real = [(1, 5), (2, 5), (3, 5), (1, 5 + (1 << 32)), (1, 0xF0000001), (2, 6)]
    shown = [numbers.shown(*each) for each in real]
    assert shown[0] == 5
    assert len(set(shown)) == len(real)
    assert max(shown) < 1 << 32
    assert [numbers.shown(*each) for each in real] == shown


def test_short_numbers_are_those_of_listings_too(open_union: Open) -> None:
    client = open_union({"a": b""}, options=Options(ino32=True))
    assert {row.name: row.ino for row in client.union.readdir(1, 0)}[b"a"] == client.attr("a").ino
