"""What each mount option means, in each dialect."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.mounter.errors import OptionError
from unionfs.mounter.options import Dialect, parse_options

ALL_DIALECTS = list(Dialect)


def refusal(text: str, dialect: Dialect = Dialect.UNIONFS) -> str:
    with pytest.raises(OptionError) as caught:
        parse_options([text], dialect)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_layers_as_for_overlayfs() -> None:
    options = parse_options([r"lowerdir=/a\:1:/b\,2,upperdir=/u,workdir=/w"])
    assert options.lowers == [Path("/a:1"), Path("/b,2")]
    assert (options.upper, options.work) == (Path("/u"), Path("/w"))


def test_lowerdir_plus_adds_one_directory_below_with_its_colons_as_they_are() -> None:
    assert parse_options(["lowerdir+=/a:1,lowerdir+=/b"]).lowers == [Path("/a:1"), Path("/b")]


@pytest.mark.parametrize("option", ["lowerdir=/a", "upperdir=/a", "workdir=/a"])
@pytest.mark.parametrize("dialect", ALL_DIALECTS)
def test_a_layer_option_given_twice_is_refused(option: str, dialect: Dialect) -> None:
    assert "given twice" in refusal(f"{option},{option}", dialect)


@pytest.mark.parametrize("option", ["lowerdir", "upperdir=", "workdir", "transport=", "timeout"])
def test_an_option_without_its_value_is_refused(option: str) -> None:
    assert refusal(option).startswith(f"{option.rstrip('=')}: has no value; write ")


def test_an_empty_directory_in_lowerdir_is_refused() -> None:
    for value in ("/a:", ":/a", "/a:::/b", "/a::"):
        assert "empty directory name" in refusal(f"lowerdir={value}")


def test_switches_of_mount8() -> None:
    options = parse_options(["ro,nosuid,dev,noexec,noatime,allow_other,sync"])
    assert options.switches == {
        "ro": True,
        "suid": False,
        "dev": True,
        "exec": False,
        "atime": False,
        "allow_other": True,
        "sync": True,
    }


@pytest.mark.parametrize(
    "contradiction", ["ro,rw", "suid,nosuid", "noexec,ro,exec", "sync,async", "transport=direct,transport=pyfuse3"]
)
def test_contradictory_options_are_refused(contradiction: str) -> None:
    assert "contradicts" in refusal(contradiction)


@pytest.mark.parametrize("dialect", [Dialect.FUSE_OVERLAYFS, Dialect.MOUNT_HELPER])
def test_a_later_word_overrides_where_programs_compose_the_options(dialect: Dialect) -> None:
    assert parse_options(["rw,suid,ro,nosuid"], dialect).switches == {"ro": True, "suid": False}


def test_the_same_option_twice_is_no_contradiction() -> None:
    assert parse_options(["ro,timeout=1", "timeout=1,ro"]).settings == {"timeout": 1.0}


@pytest.mark.parametrize(
    ("option", "settings"),
    [
        ("transport=pyfuse3", {"transport": "pyfuse3"}),
        ("data_path=cached", {"data_path": "cached"}),
        ("spin=0", {"spin_us": 0}),
        ("stack_depth=2", {"stack_depth": 2}),
        ("max_inodes=0", {"max_inodes": 0}),
        ("timeout=0.5", {"timeout": 0.5}),
        ("fsync=0", {"fsync": "volatile"}),
        ("sync=0", {"fsync": "volatile"}),
        ("fsync=1", {"fsync": "auto"}),
        ("fsync=strict", {"fsync": "strict"}),
        (r"fsname=a\,b", {"source": "a,b"}),
        ("log=/var/log/u", {"log": Path("/var/log/u")}),
    ],
)
def test_options_with_values(option: str, settings: dict[str, object]) -> None:
    assert parse_options([option]).settings == settings


@pytest.mark.parametrize(
    "option",
    [
        "transport=tcp",
        "data_path=fast",
        "spin=-1",
        "spin=1.5",
        "stack_depth=3",
        "max_inodes=many",
        "timeout=nan",
        "timeout=-1",
        "timeout=x",
        "fsync=2",
    ],
)
def test_a_bad_value_is_refused_with_the_good_ones(option: str) -> None:
    line = refusal(option)
    assert line.startswith(f"{option}: bad value; give ")


def test_an_unknown_option_is_refused_with_the_nearest_known_one() -> None:
    assert refusal("noexe") == "noexe: unknown option; did you mean noexec?"
    assert refusal("upper=/u") == "upper=/u: unknown option; did you mean upperdir?"
    assert refusal("qqq") == "qqq: unknown option; docs/commands.md lists all options"


def test_a_switch_with_a_value_is_refused() -> None:
    assert refusal("ro=1") == "ro=1: takes no value; write ro"


@pytest.mark.parametrize(
    "option",
    [
        "plugins=a.so",
        "nfs_export=on",
        "verity=require",
        "remount",
    ],
)
@pytest.mark.parametrize("dialect", ALL_DIALECTS)
def test_what_would_make_another_union_is_refused_everywhere(option: str, dialect: Dialect) -> None:
    assert refusal(option, dialect).startswith(f"{option}: not supported; ")


@pytest.mark.parametrize("dialect", ALL_DIALECTS)
def test_off_is_accepted_for_features_that_are_missing(dialect: Dialect) -> None:
    words = ["nfs_export=off,verity=off", "defaults"]
    assert parse_options(words, dialect) == parse_options([])


@pytest.mark.parametrize("dialect", ALL_DIALECTS)
def test_every_xino_of_the_kernel_is_accepted_and_nothing_else(dialect: Dialect) -> None:
    for word in ("xino=on", "xino=off", "xino=auto"):
        assert parse_options([word], dialect) == parse_options([])
    assert refusal("xino=maybe", dialect) == "xino=maybe: bad value; write xino=on or xino=off or xino=auto"
    assert refusal("xino", dialect).startswith("xino: bad value")
    assert refusal("defaults=1", dialect) == "defaults=1: bad value; write defaults"


@pytest.mark.parametrize(
    "word",
    ["threaded=1", "fast_ino=1", "writeback=0", "debug", "kernel_cache", "splice_read", "max_write=131072", "private", "rslave"],
)
def test_tuning_of_fuse_overlayfs_passes_there_without_a_word_and_is_unknown_elsewhere(word: str) -> None:
    assert parse_options([word], Dialect.FUSE_OVERLAYFS) == parse_options([])
    assert "unknown option" in refusal(word)
    assert "unknown option" in refusal(word, Dialect.MOUNT_HELPER)


@pytest.mark.parametrize("word", ["context=system_u", "no_such_thing", "uidmap=0:0:1", "idmap"])
def test_unknown_option_is_a_warning_for_fuse_overlayfs_and_refused_elsewhere(word: str) -> None:
    options = parse_options([word], Dialect.FUSE_OVERLAYFS)
    assert options.warnings == [f"{word}: unknown option, ignored"]
    assert refusal(word).startswith(f"{word}: unknown option; ")
    assert refusal(word, Dialect.MOUNT_HELPER).startswith(f"{word}: unknown option; ")


@pytest.mark.parametrize("word", ["noauto", "user", "_netdev", "nofail", "x-systemd.automount", "X-mount.mkdir", "comment=x"])
def test_words_of_fstab_pass_in_the_mount_helper_only(word: str) -> None:
    assert parse_options([word], Dialect.MOUNT_HELPER) == parse_options([])
    assert "unknown option" in refusal(word)


def test_the_mount_helper_can_ignore_unknown_options() -> None:
    assert parse_options(["frob"], Dialect.MOUNT_HELPER, ignore_unknown=True).warnings == ["frob: unknown option, ignored"]


@given(st.text(), st.sampled_from(ALL_DIALECTS))
def test_any_text_is_parsed_or_refused_in_one_line(text: str, dialect: Dialect) -> None:
    line = "no: error"
    try:
        parse_options([text], dialect)
    except OptionError as error:
        line = str(error)
    assert "\n" not in line
    assert ": " in line


@pytest.mark.parametrize("value", ["on", "follow", "off", "nofollow"])
def test_redirect_dir_takes_the_values_of_the_kernel(value: str) -> None:
    assert parse_options([f"redirect_dir={value}"]).settings == {"redirect_dir": value}


def test_data_only_layers_come_after_the_lowers() -> None:
    options = parse_options(["lowerdir+=/a,lowerdir+=/b,datadir+=/c:d,datadir+=/e"])
    assert (options.lowers, options.data) == ([Path("/a"), Path("/b")], [Path("/c:d"), Path("/e")])
    options = parse_options(["lowerdir=/a::/b,datadir+=/c"])
    assert (options.lowers, options.data) == ([Path("/a")], [Path("/b"), Path("/c")])
    for words in ("datadir+=/d", "datadir+=/d,lowerdir+=/a", "lowerdir+=/a,datadir+=/d,lowerdir+=/b"):
        assert "data-only" in refusal(words)


def test_metacopy_is_a_switch_with_a_value() -> None:
    assert parse_options(["metacopy=on"]).settings == {"metacopy": True}
    assert parse_options(["metacopy=off"]).settings == {"metacopy": False}


@pytest.mark.parametrize("value", ["on", "off"])
def test_index_takes_the_values_of_the_kernel(value: str) -> None:
    assert parse_options([f"index={value}"]).settings == {"index": value}


@pytest.mark.parametrize("form", ["auto", "dev", "xattr", "wh"])
def test_form_of_whiteouts_can_be_chosen(form: str) -> None:
    assert parse_options([f"whiteout={form}"]).settings == {"whiteout": form}
