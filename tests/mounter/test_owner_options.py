"""The options that say whose the objects of a union are, from words to a request."""

from __future__ import annotations

from pathlib import Path

import pytest

from unionfs.mounter.errors import OptionError
from unionfs.mounter.options import Dialect, parse_options
from unionfs.mounter.request import MountRequest, build_request
from unionfs.overlay.id_map import IdRange
from unionfs.overlay.options import OwnerOptions

ALL_DIALECTS = list(Dialect)


def build(options: str, dialect: Dialect = Dialect.UNIONFS) -> MountRequest:
    return build_request(parse_options([f"lowerdir=/a,{options}"], dialect), Path("/merged"), dialect=dialect)


@pytest.mark.parametrize("dialect", ALL_DIALECTS)
def test_mappings_are_triples_of_stored_shown_and_length(dialect: Dialect) -> None:
    owners = build("uidmapping=0:1000:1:1:110000:65536,gidmapping=5:6:7", dialect).union.owners
    assert owners.uids == (IdRange(0, 1000, 1), IdRange(1, 110000, 65536))
    assert owners.gids == (IdRange(5, 6, 7),)


def test_words_of_podman_with_their_leading_colon() -> None:
    owners = build(",uidmapping=:0:100000:65536,gidmapping=:0:100000:65536,", Dialect.FUSE_OVERLAYFS).union.owners
    assert owners.uids == owners.gids == (IdRange(0, 100000, 65536),)


@pytest.mark.parametrize("dialect", ALL_DIALECTS)
@pytest.mark.parametrize("value", ["0", "0:1", "0:1:2:3", "a:b:c", ":", "-1:0:1", "0:0:1.5", "0:99999999999:1", "0:0:٣"])
def test_malformed_mapping_is_refused_with_the_format(value: str, dialect: Dialect) -> None:
    with pytest.raises(OptionError) as refused:
        build(f"uidmapping={value}", dialect)
    assert str(refused.value) == (
        f"uidmapping={value}: bad value; give triples of numbers, ID-ON-DISK:ID-SHOWN:LENGTH, with colons between them"
        " (0:100000:65536)"
    )


@pytest.mark.parametrize("value", ["0:0:0", "4294967294:0:2", "0:4294967290:10"])
def test_mapping_of_ids_that_do_not_exist_is_refused(value: str) -> None:
    with pytest.raises(OptionError, match=r"^gidmapping=.*: bad value; give lengths above 0 and ids up to 4294967294$"):
        build(f"gidmapping={value}")


@pytest.mark.parametrize("value", ["0:0:10:9:100:1", "0:0:10:20:9:1"])
def test_mapping_of_one_id_to_two_is_refused(value: str) -> None:
    with pytest.raises(OptionError, match=r": bad value; give ranges in which no id occurs twice$"):
        build(f"uidmapping={value}")


@pytest.mark.parametrize("dialect", ALL_DIALECTS)
@pytest.mark.parametrize(
    ("options", "squashed"),
    [
        ("squash_to_root", (0, 0)),
        ("squash_to_uid=5", (5, None)),
        ("squash_to_gid=6", (None, 6)),
        ("squash_to_root,squash_to_gid=6", (0, 6)),
        ("squash_to_uid=0", (0, None)),
        ("noatime", (None, None)),
    ],
)
def test_an_id_to_squash_to_has_precedence_over_root(
    options: str, squashed: tuple[int | None, int | None], dialect: Dialect
) -> None:
    owners = build(options, dialect).union.owners
    assert (owners.squash_uid, owners.squash_gid) == squashed


@pytest.mark.parametrize("value", ["-1", "root", "4294967295", "1e3", "9" * 5000])
def test_id_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(OptionError, match=r"^squash_to_uid=.*: bad value; give an id from 0 to 4294967294$"):
        build(f"squash_to_uid={value}")


@pytest.mark.parametrize("dialect", ALL_DIALECTS)
def test_xattr_permissions_has_three_values(dialect: Dialect) -> None:
    assert [build(f"xattr_permissions={value}", dialect).union.owners.overrides for value in "012"] == [
        "none",
        "privileged",
        "containers",
    ]
    with pytest.raises(
        OptionError, match=r"^xattr_permissions=3: bad value; give 0 \(real owners count\), 1 \(.*\) or 2 \(.*\)$"
    ):
        build("xattr_permissions=3", dialect)


def test_only_the_program_of_container_engines_looks_for_owners_in_attributes_unasked() -> None:
    assert build("ro", Dialect.FUSE_OVERLAYFS).union.owners == OwnerOptions(detects_overrides=True)
    assert build("ro").union.owners == build("ro", Dialect.MOUNT_HELPER).union.owners == OwnerOptions()


@pytest.mark.parametrize("dialect", ALL_DIALECTS)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("ro", (True, True, False, False)),
        ("noacl", (False, True, False, False)),
        ("acl", (True, True, False, False)),
        ("noxattrs", (True, False, False, False)),
        ("noxattrs=1", (True, False, False, False)),
        ("noxattrs=0", (True, True, False, False)),
        ("static_nlink", (True, True, True, False)),
        ("ino32_t", (True, True, False, True)),
    ],
)
def test_switches_of_fuse_overlayfs(options: str, expected: tuple[bool, ...], dialect: Dialect) -> None:
    union = build(options, dialect).union
    assert (union.acl, union.xattrs, union.static_nlink, union.ino32) == expected


def test_noxattrs_with_another_value_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^noxattrs=2: bad value; give one of 0, 1$"):
        build("noxattrs=2")


@pytest.mark.parametrize("options", ["acl,noacl", "uidmapping=0:1:1,uidmapping=0:2:1", "squash_to_uid=1,squash_to_uid=2"])
def test_contradictions_are_refused_by_the_strict_program_and_the_last_word_counts_elsewhere(options: str) -> None:
    with pytest.raises(OptionError, match="contradicts an option before it"):
        build(options)
    last = options.rpartition(",")[2]
    assert build(options, Dialect.FUSE_OVERLAYFS) == build(last, Dialect.FUSE_OVERLAYFS)
