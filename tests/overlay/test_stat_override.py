"""Owners, modes and types in extended attributes (``xattr_permissions``)."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, stack
from tests.overlay.conftest import Open
from unionfs.filesystem import SET_GID, SET_KILL_SUIDGID, SET_MODE, SET_UID, Attr, Caller, Changes
from unionfs.overlay import Options, OwnerOptions, Union
from unionfs.overlay.id_map import IdRange
from unionfs.overlay.options import Fsync

CONTAINERS = Options(owners=OwnerOptions(overrides="containers"))
PRIVILEGED = Options(owners=OwnerOptions(overrides="privileged"))
DETECTING = Options(owners=OwnerOptions(detects_overrides=True))
NAME = "user.containers.override_stat"
OLD_NAME = "user.fuseoverlayfs.override_stat"
PRIVILEGED_NAME = "security.fuseoverlayfs.override_stat"
USER = Caller(1000, 1001, 1, 0o022)


def shown(attr: Attr) -> tuple[int, int, str]:
    return attr.uid, attr.gid, stat.filemode(attr.mode)


def real(path: Path) -> tuple[int, int, str]:
    st = path.lstat()
    return st.st_uid, st.st_gid, stat.filemode(st.st_mode)


def change(client: Client, path: str, **fields: int) -> Attr:
    bits = {"uid": SET_UID, "gid": SET_GID, "mode": SET_MODE}
    return client.call(client.union.setattr, client.node(path), Changes(sum(bits[name] for name in fields), **fields), ROOT)


def override(path: Path, value: str, name: str = NAME) -> None:
    os.setxattr(path, name, value.encode())


# -- reading ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NAME, OLD_NAME, PRIVILEGED_NAME])
def test_lower_layer_whose_root_has_the_attribute_is_read_by_it(tmp_path: Path, name: str) -> None:
    layers = stack(tmp_path, {"f": b"", "d": None, "plain": b""}, writable=False)
    lower = tmp_path / "lower0"
    override(lower, "0:7:0555:dir", name)
    override(lower / "f", "1000:1001:4711", name)
    override(lower / "d", "5:6:41700", name)
    for options in (DETECTING, CONTAINERS):
        client = Client(Union(layers, options))
        assert [shown(client.attr(path)) for path in ("", "f", "d", "plain")] == [
            (0, 7, "dr-xr-xr-x"),
            (1000, 1001, "-rws--x--x"),
            (5, 6, "drwx-----T"),
            (0, 0, "-rw-r--r--"),
        ]
        client.union.close()


def test_layer_whose_root_has_no_attribute_keeps_its_real_owners(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, {"g": b""}, writable=False, options=DETECTING)
    override(tmp_path / "lower0/f", "1:2:600")
    assert shown(client.attr("f")) == (0, 0, "-rw-r--r--")
    assert client.call(client.union.getxattr, client.node("f"), NAME.encode()) == b"1:2:600"


def test_nothing_is_read_unless_asked_for(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"f": b""}, writable=False)
    override(tmp_path / "lower0", "0:0:755")
    override(tmp_path / "lower0/f", "1:2:4755")
    client = Client(Union(layers))
    assert shown(client.attr("f")) == (0, 0, "-rw-r--r--")
    client.union.close()


@pytest.mark.parametrize(
    ("suffix", "kind", "rdev"),
    [
        ("char-1-3", stat.S_IFCHR, os.makedev(1, 3)),
        ("block-8-17", stat.S_IFBLK, os.makedev(8, 17)),
        ("pipe", stat.S_IFIFO, 0),
        ("socket", stat.S_IFSOCK, 0),
        ("file", stat.S_IFREG, 0),
    ],
)
def test_regular_file_may_pass_for_a_special_one(tmp_path: Path, suffix: str, kind: int, rdev: int) -> None:
    layers = stack(tmp_path, {"f": b"", "d": None})
    override(tmp_path / "lower0", "0:0:755")
    override(tmp_path / "lower0/f", f"3:4:660:{suffix}")
    client = Client(Union(layers, CONTAINERS))
    attr = client.attr("f")
    assert (attr.uid, attr.gid, attr.mode, attr.rdev) == (3, 4, kind | 0o660, rdev)
    assert [(row.name, row.kind) for row in client.union.readdirplus(1, 0)][2:] == [(b"f", kind >> 12), (b"d", 4)]
    assert [(row.name, row.kind) for row in client.union.readdir(1, 0)][2:] == [(b"f", 0), (b"d", 4)]
    # It stays one, whatever is changed about it.
    assert change(client, "f", uid=9).mode == kind | 0o660
    assert change(client, "f", mode=0o600).mode == kind | 0o600
    assert os.getxattr(tmp_path / "upper/f", NAME) == f"9:4:600:{suffix}".encode()
    assert real(tmp_path / "upper/f") == (0, 0, "-rwxr-xr-x")
    client.union.close()


@pytest.mark.parametrize(
    "value",
    ["", "1", "1:2", "a:0:644", "0:0:648", "-1:0:644", "4294967295:0:644", "0:0:644:bogus", "0:0:644:dir", "0:0:644:char-1"],
)
def test_malformed_attribute_makes_one_object_unreadable_and_nothing_else(tmp_path: Path, value: str) -> None:
    layers = stack(tmp_path, {"bad": b"", "good": b""})
    override(tmp_path / "lower0", "0:0:755")
    override(tmp_path / "lower0/bad", value)
    client = Client(Union(layers, CONTAINERS))
    with pytest.raises(OSError, match="in a layer"):
        client.node("bad")
    rows = {row.name: row.entry for row in client.union.readdirplus(1, 0)}
    assert rows[b"bad"] is None
    assert rows[b"good"] is not None
    client.unlink("bad")
    assert client.names("") == [b"good"]
    client.union.close()


# -- writing ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "name"), [(CONTAINERS, NAME), (PRIVILEGED, PRIVILEGED_NAME)])
def test_new_objects_have_owner_and_mode_in_the_attribute(open_union: Open, tmp_path: Path, options: Options, name: str) -> None:
    client = open_union({"hidden": b""}, options=options)
    union, root, upper = client.union, 1, tmp_path / "upper"
    client.unlink("hidden")
    made = [
        client.call(union.create, root, b"f", os.O_WRONLY, 0o6640, USER)[0],
        client.call(union.mkdir, root, b"d", 0o700, USER),
        client.call(union.mkdir, root, b"hidden", 0o777, USER),
        client.call(union.mknod, root, b"none", stat.S_IFREG, 0, USER),
    ]
    assert [shown(entry.attr) for entry in made] == [
        (1000, 1001, "-rwSr-S---"),
        (1000, 1001, "drwx------"),
        (1000, 1001, "drwxr-xr-x"),
        (1000, 1001, "----------"),
    ]
    assert [real(upper / name) for name in ("f", "d", "hidden", "none")] == [
        (0, 0, "-rwxr-xr-x"),
        (0, 0, "drwxr-xr-x"),
        (0, 0, "drwxr-xr-x"),
        (0, 0, "-rwxr-xr-x"),
    ]
    assert os.getxattr(upper / "f", name) == b"1000:1001:6640"
    assert os.getxattr(upper / "d", name) == b"1000:1001:700"


def test_file_without_a_name_keeps_its_owner_when_it_gets_one(open_union: Open, tmp_path: Path) -> None:
    client = open_union({}, options=CONTAINERS)
    entry, _ = client.call(client.union.tmpfile, 1, 0o600, USER)
    assert shown(entry.attr) == (1000, 1001, "-rw-------")
    changed = client.call(client.union.setattr, entry.node, Changes(SET_UID, uid=7), ROOT)
    assert shown(changed) == (7, 1001, "-rw-------")
    client.call(client.union.link, entry.node, 1, b"named")
    assert shown(client.attr("named")) == (7, 1001, "-rw-------")
    assert os.getxattr(tmp_path / "upper/named", NAME) == b"7:1001:600"


def test_set_gid_directory_hands_down_its_group_and_bit(open_union: Open, tmp_path: Path) -> None:
    client = open_union({}, options=CONTAINERS)
    client.mkdir("d")
    change(client, "d", gid=50, mode=0o2775)
    assert not (tmp_path / "upper/d").stat().st_mode & stat.S_ISGID
    node = client.node("d")
    directory = client.call(client.union.mkdir, node, b"sub", 0o755, USER)
    file, _ = client.call(client.union.create, node, b"f", os.O_WRONLY, 0o644, USER)
    assert shown(directory.attr) == (1000, 50, "drwxr-sr-x")
    assert shown(file.attr) == (1000, 50, "-rw-r--r--")


def test_set_gid_bit_of_the_real_directory_is_nobodys(open_union: Open, tmp_path: Path) -> None:
    os.makedirs(tmp_path / "upper")
    os.chown(tmp_path / "upper", 0, 50)
    (tmp_path / "upper").chmod(0o2755)
    override(tmp_path / "upper", "0:0:755")
    client = open_union({}, options=CONTAINERS)
    assert shown(client.mkdir("d").attr) == (0, 0, "drwxr-xr-x")


def test_changes_of_owner_and_mode_touch_only_the_attribute(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"data", "d": None}, options=CONTAINERS)
    os.chown(tmp_path / "lower0/f", 5, 6)
    os.chmod(tmp_path / "lower0/f", 0o640)
    assert shown(change(client, "f", uid=1000)) == (1000, 6, "-rw-r-----")
    assert shown(change(client, "f", mode=0o4750)) == (1000, 6, "-rwsr-x---")
    assert shown(change(client, "f", gid=9)) == (1000, 9, "-rwxr-x---")
    assert shown(change(client, "f", uid=1, mode=0o2711)) == (1, 9, "-rwx--s--x")
    assert shown(change(client, "d", mode=0o1777)) == (0, 0, "drwxrwxrwt")
    assert real(tmp_path / "upper/f") == (0, 0, "-rwxr-xr-x")
    assert os.getxattr(tmp_path / "upper/d", NAME) == b"0:0:1777"
    assert client.read("f") == b"data"


def test_write_by_others_drops_the_set_id_bits_of_the_attribute(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b"data"}, options=CONTAINERS)
    change(client, "f", mode=0o6755)
    client.call(client.union.write, client.node("f"), 0, b"x", True)
    assert os.getxattr(tmp_path / "upper/f", NAME) == b"0:0:755"
    change(client, "f", mode=0o6745)
    client.call(client.union.setattr, client.node("f"), Changes(SET_KILL_SUIDGID), ROOT)
    assert os.getxattr(tmp_path / "upper/f", NAME) == b"0:0:2745"


def test_real_set_id_bits_of_an_older_upper_file_go_with_the_first_change(open_union: Open, tmp_path: Path) -> None:
    client = open_union({}, options=CONTAINERS)
    (tmp_path / "upper/f").touch()
    (tmp_path / "upper/f").chmod(0o6711)
    assert shown(client.attr("f")) == (0, 0, "-rws--s--x")
    client.call(client.union.write, client.node("f"), 0, b"x", True)
    assert shown(client.attr("f")) == (0, 0, "-rwx--x--x")
    assert real(tmp_path / "upper/f") == (0, 0, "-rwx--x--x")


def test_copy_up_keeps_what_the_attribute_of_the_lower_says(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"d/f": b"data", "real": b""})
    lower, upper = tmp_path / "lower0", tmp_path / "upper"
    for path, value in ((lower, "0:0:711"), (lower / "d", "3:4:750"), (lower / "d/f", "1000:1001:4711")):
        override(path, value, OLD_NAME)
    os.chown(lower / "real", 8, 9)
    client = Client(Union(layers, CONTAINERS))
    before = [shown(client.attr(path)) for path in ("", "d", "d/f", "real")]
    client.write("d/f", b"D")
    client.call(client.union.setxattr, client.node("real"), b"user.x", b"1", 0)
    assert [shown(client.attr(path)) for path in ("", "d", "d/f", "real")] == before
    client.union.close()
    # The upper has its own form of it.
    assert os.getxattr(upper, NAME) == b"0:0:711"
    assert os.getxattr(upper / "d/f", NAME) == b"1000:1001:4711"
    assert os.getxattr(upper / "real", NAME) == b"8:9:644"
    assert OLD_NAME not in os.listxattr(upper / "d/f")
    again = Client(Union(layers, DETECTING))
    assert [shown(again.attr(path)) for path in ("", "d", "d/f", "real")] == before
    assert again.read("d/f") == b"Data"
    again.union.close()


def test_upper_that_has_nothing_in_attributes_gets_real_owners(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"f": b"", "null": b""})
    override(tmp_path / "lower0", "0:0:755")
    override(tmp_path / "lower0/f", "1000:1001:2755")
    override(tmp_path / "lower0/null", "0:0:666:char-1-3")
    client = Client(Union(layers, DETECTING))
    client.write("f", b"x")
    assert real(tmp_path / "upper/f") == (1000, 1001, "-rwxr-sr-x")
    assert NAME not in os.listxattr(tmp_path / "upper/f")
    with pytest.raises(OSError, match="only an upper with xattr_permissions"):
        client.chmod("null", 0o600)
    assert shown(client.attr("null")) == (0, 0, "crw-rw-rw-")
    client.union.close()


def test_directory_that_is_replaced_while_it_holds_whiteouts_keeps_its_owner(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"d/f": b""})
    client = Client(Union(layers, CONTAINERS))
    change(client, "d", uid=5, mode=0o700)
    client.unlink("d/f")
    client.mkdir("made")
    change(client, "made", uid=6)
    client.rename("made", "d")
    assert shown(client.attr("d")) == (6, 0, "drwxr-xr-x")
    client.union.close()


def test_names_of_one_lower_file_share_their_attribute_by_the_index(tmp_path: Path) -> None:
    options = Options(index="on", owners=OwnerOptions(overrides="containers"))
    layers = stack(tmp_path, {"a": b"data"})
    os.link(tmp_path / "lower0/a", tmp_path / "lower0/b")
    client = Client(Union(layers, options))
    change(client, "a", uid=5, mode=0o4700)
    assert shown(client.attr("b")) == (5, 0, "-rws------")
    change(client, "b", gid=6)
    assert shown(client.attr("a")) == (5, 6, "-rwx------")
    client.union.close()
    assert os.getxattr(tmp_path / "upper/a", NAME) == b"5:6:700"


@pytest.mark.parametrize("fsync", ["strict", "auto"])
def test_metadata_only_copy_has_its_owner_in_the_attribute(tmp_path: Path, fsync: Fsync) -> None:
    layers = stack(tmp_path, {"d/f": b"data"})
    client = Client(Union(layers, Options(metacopy=True, fsync=fsync, owners=OwnerOptions(overrides="containers"))))
    change(client, "d/f", uid=5, mode=0o600)
    assert "trusted.overlay.metacopy" in os.listxattr(tmp_path / "upper/d/f")
    assert shown(client.attr("d/f")) == (5, 0, "-rw-------")
    client.write("d/f", b"D")
    assert shown(client.attr("d/f")) == (5, 0, "-rw-------")
    client.union.close()
    assert os.getxattr(tmp_path / "upper/d/f", NAME) == b"5:0:600"
    assert os.getxattr(tmp_path / "upper/d", NAME) == b"0:0:755"


# -- the root of the upper ----------------------------------------------------------------------------------------------------


def test_unmarked_upper_is_marked_with_what_it_really_is(open_union: Open, tmp_path: Path) -> None:
    os.makedirs(tmp_path / "upper")
    os.chown(tmp_path / "upper", 3, 4)
    (tmp_path / "upper").chmod(0o711)
    client = open_union({}, options=CONTAINERS)
    assert os.getxattr(tmp_path / "upper", NAME) == b"3:4:711"
    assert shown(client.attr("")) == (3, 4, "drwx--x--x")


def test_marked_upper_keeps_its_mark_and_its_form(open_union: Open, tmp_path: Path) -> None:
    os.makedirs(tmp_path / "upper")
    override(tmp_path / "upper", "1:2:711", OLD_NAME)
    client = open_union({}, options=CONTAINERS)
    client.mkdir("d")
    assert shown(client.attr("")) == (1, 2, "drwx--x--x")
    assert NAME not in os.listxattr(tmp_path / "upper")
    assert os.getxattr(tmp_path / "upper/d", OLD_NAME) == b"0:0:755"


# -- attributes of users ------------------------------------------------------------------------------------------------------


def test_users_neither_see_nor_set_the_attribute(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=CONTAINERS)
    client.chmod("f", 0o600)
    union, node = client.union, client.node("f")
    assert NAME.encode() not in client.call(union.listxattr, node, ROOT)
    for name in (NAME, OLD_NAME, PRIVILEGED_NAME):
        with pytest.raises(OSError, match="No data"):
            client.call(union.getxattr, node, name.encode())
        with pytest.raises(PermissionError):
            client.call(union.setxattr, node, name.encode(), b"0:0:4777", 0)
        with pytest.raises(PermissionError):
            client.call(union.removexattr, node, name.encode())
    assert os.getxattr(tmp_path / "upper/f", NAME) == b"0:0:600"


def test_one_that_a_lower_file_really_has_is_not_copied_up_as_its_owner(tmp_path: Path) -> None:
    layers = stack(tmp_path, {"f": b""})
    override(tmp_path / "lower0/f", "0:0:4777")
    os.chown(tmp_path / "lower0/f", 1000, 1000)
    client = Client(Union(layers, CONTAINERS))
    client.write("f", b"x")
    assert os.getxattr(tmp_path / "upper/f", NAME) == b"1000:1000:644"
    client.union.close()


def test_security_attributes_are_kept_in_the_user_namespace(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=CONTAINERS)
    capability = struct.pack("<IIIII", 0x02000000, 1 << 10, 0, 0, 0)
    os.setxattr(tmp_path / "lower0/f", "security.capability", capability)
    client.chmod("f", 0o755)
    union, node, upper = client.union, client.node("f"), tmp_path / "upper/f"
    stored = "user.containers.override_security.capability"
    assert os.getxattr(upper, stored) == capability
    assert "security.capability" not in os.listxattr(upper)
    assert client.call(union.getxattr, node, b"security.capability") == capability
    assert client.call(union.listxattr, node, ROOT) == [b"security.capability"]
    client.call(union.removexattr, node, b"security.capability")
    assert os.listxattr(upper) == [name for name in os.listxattr(upper) if name != stored]
    client.call(union.setxattr, node, b"security.new", b"1", 0)
    assert os.getxattr(upper, "user.containers.override_security.new") == b"1"
    with pytest.raises(OSError, match="not supported"):
        client.call(union.setxattr, node, b"security." + b"x" * 240, b"", 0)


def test_there_are_no_acls(open_union: Open, tmp_path: Path) -> None:
    client = open_union({"f": b""}, options=CONTAINERS)
    acl = b"\2\0\0\0" + b"".join(
        struct.pack("<HHI", *entry) for entry in ((1, 6, 0), (2, 4, 5), (4, 4, 0), (16, 4, 0), (32, 4, 0))
    )
    os.setxattr(tmp_path / "lower0/f", "system.posix_acl_access", acl)
    union, node = client.union, client.node("f")
    assert not union.has_acl
    for method, *arguments in ((union.getxattr,), (union.setxattr, acl, 0), (union.removexattr,)):
        with pytest.raises(OSError, match="not supported"):
            client.call(method, node, b"system.posix_acl_access", *arguments)
    assert client.call(union.listxattr, node, ROOT) == []
    client.chmod("f", 0o600)
    assert "system.posix_acl_access" not in os.listxattr(tmp_path / "upper/f")


# -- together with a mapping ----------------------------------------------------------------------------------------------------


def test_ids_in_the_attribute_are_mapped_like_real_ones(open_union: Open, tmp_path: Path) -> None:
    mapping = (IdRange(0, 100000, 1000),)
    client = open_union({"f": b""}, options=Options(owners=OwnerOptions(uids=mapping, gids=mapping, overrides="containers")))
    assert shown(change(client, "f", uid=100005)) == (100005, 100000, "-rw-r--r--")
    assert os.getxattr(tmp_path / "upper/f", NAME) == b"5:0:644"
