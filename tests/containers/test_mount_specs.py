"""The grammars of mounts, as docker's (moby, volume/mounts/linux_parser_test.go and docker/cli, opts/mount_test.go)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.containers.mount_specs.inherit import inherited, parse_inherited
from unionfs.containers.mount_specs.long import parse_long
from unionfs.containers.mount_specs.plan import merged_mounts
from unionfs.containers.mount_specs.short import Mode, parse_short
from unionfs.containers.mount_specs.spec import Kind, MountSpec
from unionfs.containers.mount_specs.tmpfs import parse_tmpfs
from unionfs.store.errors import StoreError

BIND = MountSpec(Kind.BIND, "/b", "/a")
VOLUME = MountSpec(Kind.VOLUME, "/b", "vol")
TMPFS = MountSpec(Kind.TMPFS, "/b")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("/b", dataclasses.replace(VOLUME, source=None)),
        ("/x/../b/.", dataclasses.replace(VOLUME, source=None)),
        ("//b", dataclasses.replace(VOLUME, source=None)),
        ("/a:/b", dataclasses.replace(BIND, makes_source=True)),
        ("/a/:/b/", dataclasses.replace(BIND, makes_source=True)),
        ("/a:/b:ro", dataclasses.replace(BIND, makes_source=True, read_only=True)),
        ("/a:/b:rw", dataclasses.replace(BIND, makes_source=True)),
        (
            "/a:/b:ro,Z,rslave,cached",
            dataclasses.replace(BIND, makes_source=True, read_only=True, relabel="Z", propagation="rslave"),
        ),
        ("/a:/b:z,shared,delegated", dataclasses.replace(BIND, makes_source=True, relabel="z", propagation="shared")),
        ("/a:/b:", dataclasses.replace(BIND, makes_source=True)),
        ("vol:/b", VOLUME),
        ("vol:/b:ro", dataclasses.replace(VOLUME, read_only=True)),
        ("vol:/b:nocopy,consistent", dataclasses.replace(VOLUME, no_copy=True)),
        ("vol:/b:nocopy,ro,z", dataclasses.replace(VOLUME, no_copy=True, read_only=True, relabel="z")),
    ],
)
def test_short_syntax(text: str, spec: MountSpec) -> None:
    assert parse_short(text) == spec


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not the specification of a mount; write /HOST/PATH:/TARGET"),
        (":", "not the specification"),
        (":/b", "not the specification"),
        ("/a:/b:ro:more", "not the specification"),
        ("b", "not an absolute path"),
        ("/", "the target is /"),
        ("/a:/", "the target is /"),
        ("/a:/..", "the target is /"),
        ("/a:b", "the target 'b' is not an absolute path"),
        ("/a:", "is not an absolute path"),
        ("/a:ro", "'ro' is an option, but there is no source"),
        ("/a:ro,Z", "is an option"),
        ("/a:/b:readonly", "'readonly' is not an option of a mount; use ro, rw"),
        ("/a:/b:ro,rw", "ro and rw contradict each other"),
        ("/a:/b:z,Z", "z and Z contradict"),
        ("/a:/b:private,slave", "private and slave contradict"),
        ("/a:/b:unbindable", "not an option"),
        ("/a:/b:ro,", "'' is not an option"),
        ("/a:/b:nocopy", "nocopy is for volumes"),
        ("vol:/b:rshared", "rshared is for binds"),
        ("./a:/b", "relative path"),
        ("../a:/b", "relative path"),
        ("a/b:/b", "not a name of a volume"),
        ("a:/b", "two or more letters"),
        ("vol:/b\0", "not an absolute path"),
    ],
)
def test_wrong_short_syntax_says_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_short(text)
    assert said in str(caught.value)
    assert caught.value.exit_status == 2


def test_volume_driver_is_for_volumes() -> None:
    assert parse_short("vol:/b", "nas").driver == "nas"
    assert parse_short("/b", "nas").driver == "nas"
    assert parse_short("/a:/b", "nas").driver is None


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("type=bind,source=/a,target=/b", BIND),
        ("type=bind,src=/a,dst=/b,ro", dataclasses.replace(BIND, read_only=True)),
        ("TYPE=Bind,Source=/a,destination=/b,readonly=1", dataclasses.replace(BIND, read_only=True)),
        ("type=bind,source=/a,target=/b,readonly=false,consistency=cached", BIND),
        (
            "type=bind,source=/home,target=/b,bind-propagation=rslave",
            dataclasses.replace(BIND, source="/home", propagation="rslave"),
        ),
        ("type=bind,source=/a,target=/b,bind-nonrecursive", dataclasses.replace(BIND, recursive=False)),
        ("type=bind,source=/a,target=/b,bind-recursive=disabled", dataclasses.replace(BIND, recursive=False)),
        ("type=bind,source=/a,target=/b,bind-create-src", dataclasses.replace(BIND, makes_source=True)),
        ("source=vol,target=/b", VOLUME),
        ("target=/b", dataclasses.replace(VOLUME, source=None)),
        ("type=volume,source=vol,target=/b,readonly,volume-nocopy", dataclasses.replace(VOLUME, read_only=True, no_copy=True)),
        ("type=volume,source=vol,target=/b,volume-subpath=x/../y", dataclasses.replace(VOLUME, subpath="x/../y")),
        (
            'source=vol,target=/b,volume-driver=local,volume-opt=type=nfs,"volume-opt=o=addr=1.2.3.4,rw",volume-label=a=b,volume-label=c',
            dataclasses.replace(
                VOLUME, driver="local", driver_options={"type": "nfs", "o": "addr=1.2.3.4,rw"}, labels={"a": "b", "c": ""}
            ),
        ),
        ("type=tmpfs,target=/b", TMPFS),
        (
            "type=tmpfs,dst=/b,tmpfs-size=64m,tmpfs-mode=1770,ro",
            dataclasses.replace(TMPFS, read_only=True, tmpfs_options=("size=67108864", "mode=1770")),
        ),
    ],
)
def test_long_syntax(text: str, spec: MountSpec) -> None:
    found = parse_long(text)
    assert found == spec
    assert (found.driver_options, found.labels) == (spec.driver_options, spec.labels)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no target"),
        ("type=volume", "there is no target"),
        ("type=bind,target=/b", "there is no source"),
        ("type=bind,source=a,target=/b", "the source 'a' is not an absolute path"),
        ("type=bind,source=/a,target=b", "the target 'b' is not an absolute path"),
        ("type=bind,source=/a,target=/", "the target is /"),
        ("type=floppy,source=/a,target=/b", "no mounts of type floppy"),
        ("type=bind,source=/a,target=/b,volume-nocopy", "volume-nocopy is for type=volume"),
        ("type=bind,source=/a,target=/b,tmpfs-size=1m", "tmpfs-size is for type=tmpfs"),
        ("type=volume,source=vol,target=/b,bind-propagation=shared", "bind-propagation is for type=bind"),
        ("type=tmpfs,target=/b,volume-opt=a=b", "volume-opt is for type=volume"),
        ("type=tmpfs,source=/a,target=/b", "a tmpfs has no source"),
        ("type=bind,source=/a,target=/b,bind-propagation=both", "bind-propagation=both is none; use private"),
        ("type=bind,source=/a,target=/b,bind-recursive=some", "bind-recursive=some is none"),
        ("type=bind,source=/a,target=/b,readonly=yes", "readonly=yes is neither true nor false"),
        ("type=bind,source=/a,target=/b,consistency=lax", "consistency=lax is none"),
        ("type=bind,source=/a,target=/b,colour=red", "'colour' is not a key of a mount; use"),
        ("type=bind,source=/a,target=/b,nonsense", "'nonsense' is not KEY=VALUE"),
        ("target=/b,readonly", "an anonymous volume that cannot be written"),
        ("target=/b,volume-subpath=x", "a subpath of an anonymous volume"),
        ("source=vol,target=/b,volume-subpath=../x", "leaves the volume"),
        ("source=vol,target=/b,volume-subpath=/x", "leaves the volume"),
        ("source=vol,target=/b,volume-subpath=x/../../y", "leaves the volume"),
        ("source=./vol,target=/b", "not a name of a volume"),
        ("type=tmpfs,target=/b,tmpfs-size=big", "not a size"),
        ("type=tmpfs,target=/b,tmpfs-mode=999", "not an octal mode"),
        ("type=tmpfs,target=/b,tmpfs-mode=-1", "not an octal mode"),
        ('source=vol,"target=/b', "not one line of comma-separated fields"),
        ("source=vol,target=/b\nsource=x", "not one line"),
    ],
)
def test_wrong_long_syntax_says_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_long(text)
    assert said in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("/b", TMPFS),
        ("/b:size=64m,mode=1770,exec", dataclasses.replace(TMPFS, tmpfs_options=("size=64m", "mode=1770", "exec"))),
        ("/b:ro,uid=1000", dataclasses.replace(TMPFS, read_only=True, tmpfs_options=("uid=1000",))),
    ],
)
def test_tmpfs_syntax(text: str, spec: MountSpec) -> None:
    assert parse_tmpfs(text) == spec


@pytest.mark.parametrize("text", ["b", "", "/", "/b:colour=red", "/b:size=big", "/b:size", "/b:mode=9", "/b:,"])
def test_wrong_tmpfs_syntax_is_refused(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_tmpfs(text)
    assert caught.value.exit_status == 2


def test_volumes_from_syntax() -> None:
    assert parse_inherited("web") == ("web", None)
    assert parse_inherited("web:ro") == ("web", Mode(read_only=True))
    assert parse_inherited("web:Z") == ("web", Mode(label="Z"))


@pytest.mark.parametrize("text", ["", ":ro", "web:nocopy", "web:rslave", "web:1"])
def test_wrong_volumes_from_is_refused(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_inherited(text)
    assert caught.value.exit_status == 2


def test_inherited_mounts_copy_nothing_and_stay_read_only() -> None:
    read_only = dataclasses.replace(VOLUME, read_only=True)
    assert inherited([VOLUME, read_only], None) == [
        dataclasses.replace(VOLUME, no_copy=True),
        dataclasses.replace(read_only, no_copy=True),
    ]
    assert [mount.read_only for mount in inherited([VOLUME, read_only], Mode())] == [False, True]
    assert [mount.read_only for mount in inherited([VOLUME], Mode(read_only=True))] == [True]


def test_two_mounts_on_one_target_are_refused() -> None:
    with pytest.raises(StoreError, match="/b: two mounts have this target"):
        merged_mounts([BIND, TMPFS])


def test_explicit_hides_inherited_and_that_hides_anonymous() -> None:
    anonymous = dataclasses.replace(VOLUME, source=None)
    other = dataclasses.replace(VOLUME, source="other")
    assert merged_mounts([BIND], [VOLUME], ["/b"]) == (BIND,)
    assert merged_mounts([anonymous], [VOLUME], ["/b"]) == (VOLUME,)
    assert merged_mounts([anonymous, anonymous], [], ["/b", "/c/"]) == (anonymous, MountSpec(Kind.VOLUME, "/c"))
    assert merged_mounts([anonymous, BIND]) == (BIND,)
    assert merged_mounts([], [VOLUME, other]) == (other,)


def test_inner_mounts_come_after_outer_ones() -> None:
    targets = ["/a/b/c", "/a-b", "/a", "/a/b"]
    assert [spec.target for spec in merged_mounts([MountSpec(Kind.TMPFS, target) for target in targets])] == [
        "/a",
        "/a/b",
        "/a/b/c",
        "/a-b",
    ]


@pytest.mark.parametrize("spec", [BIND, VOLUME, TMPFS, parse_long("source=vol,target=/b,volume-opt=a=b,volume-label=c=d")])
def test_mounts_survive_the_database(spec: MountSpec) -> None:
    kept = MountSpec.from_json(spec.to_json())
    assert (kept, kept.driver_options, kept.labels) == (spec, spec.driver_options, spec.labels)


def parsed(parse: Callable[[str], MountSpec], text: str) -> MountSpec | None:
    """None: refused, with the error that is declared."""
    try:
        return parse(text)
    except StoreError as error:
        if error.exit_status != 2:
            raise
        return None


WORDS = st.text(st.sampled_from('/:,=.ab"\0\n ro-'), max_size=24) | st.text(max_size=12)
FIELDS = st.sampled_from(
    [
        "type=bind", "type=volume", "type=tmpfs", "source=vol", "source=/a", "target=/b", "ro", "volume-opt=a=b", "ro=x",
        "bind-propagation=rslave", "tmpfs-size=1m", "volume-subpath=x", "volume-nocopy",
    ]
)  # fmt: skip


@given(WORDS)
def test_any_text_is_a_mount_or_a_declared_error(text: str) -> None:
    for parse in (parse_short, parse_long, parse_tmpfs):
        spec = parsed(parse, text)
        if spec is not None:
            assert spec.target.startswith("/")
            assert set(spec.target.split("/")[1:]).isdisjoint({"", ".", ".."})


@given(st.lists(FIELDS, max_size=6))
def test_any_combination_of_fields_is_a_mount_or_a_declared_error(fields: list[str]) -> None:
    spec = parsed(parse_long, ",".join(fields))
    if spec is not None:
        assert MountSpec.from_json(spec.to_json()) == spec
