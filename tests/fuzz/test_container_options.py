"""What users of containers write: mounts, volumes and their options, sizes, signals."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from tests.fuzz.bounds import is_one_line, outcome
from tests.fuzz.effort import effort
from tests.fuzz.strategies import TEXTS
from unionfs.containers.mount_specs.inherit import inherited, parse_inherited
from unionfs.containers.mount_specs.long import parse_long
from unionfs.containers.mount_specs.plan import merged_mounts
from unionfs.containers.mount_specs.short import parse_short
from unionfs.containers.mount_specs.spec import MountSpec
from unionfs.containers.mount_specs.tmpfs import parse_tmpfs
from unionfs.containers.options import parse_environment_file, parse_labels, parse_signal, parse_size
from unionfs.mounter.errors import MounterError
from unionfs.store.errors import StoreError
from unionfs.store.reference import parse_reference
from unionfs.store.store import Store
from unionfs.volumes.drivers import VolumeDriver
from unionfs.volumes.drivers.local import LocalDriver
from unionfs.volumes.drivers.mount_options import parse_words, without_secrets
from unionfs.volumes.drivers.overlay import OverlayDriver
from unionfs.volumes.names import check_name, is_name

PARSERS: dict[str, Callable[[str], object]] = {
    "-v": parse_short,
    "--mount": parse_long,
    "--tmpfs": parse_tmpfs,
    "--volumes-from": parse_inherited,
    "size": parse_size,
    "signal": parse_signal,
    "volume": check_name,
    "image": parse_reference,
    "label": lambda text: parse_labels([text]),
    "environment file": parse_environment_file,
    "o": lambda text: (parse_words(text), without_secrets(text)),
}
KEYS: tuple[str, ...] = (
    "type",
    "source",
    "target",
    "src",
    "readonly",
    "bind-propagation",
    "bind-recursive",
    "volume-opt",
    "volume-driver",
)
KEYS += ("volume-subpath", "volume-nocopy", "tmpfs-size", "tmpfs-mode", "consistency", "size", "mode", "uid", "nr_inodes", "mpol")
VALUES: tuple[str, ...] = (
    "bind",
    "volume",
    "tmpfs",
    "/a",
    "/b/../..",
    "//",
    "name",
    "true",
    "64m",
    "1770",
    "9" * 5000,
    "999999999999999999G",
)
VALUES += ("a=b", "../x", "rslave", "٣", "²", "0", "-1", "1_0", "0o17", " 17", '"a', '"a,b"', "\r", "\x85")
SPECIFICATIONS = (
    st.lists(
        st.sampled_from(["/a", "/", "name", "ro", "rw", "Z", "z,ro", "rshared", "nocopy", "size=1m", "mode=7", "", "a", "C"])
        | st.sampled_from([f"{key}={value}" for key in KEYS[-5:] for value in VALUES])
        | TEXTS,
        max_size=4,
    ).map(":".join)
    | st.lists(st.builds("{}={}".format, st.sampled_from(KEYS), st.sampled_from(VALUES)) | TEXTS, max_size=5).map(",".join)
    | TEXTS
    | st.text(':/,=ab.\0"\n0', max_size=30)
)


@effort(400)
@given(parser=st.sampled_from(list(PARSERS)), text=SPECIFICATIONS)
@example("size", "9" * 5000)
@example("size", "9" * 5000 + "G")
@example("signal", "²")
@example("signal", "9" * 5000)
@example("--mount", "type=tmpfs,target=/a,tmpfs-size=" + "9" * 5000)
@example("--mount", "type=tmpfs,target=/a,tmpfs-mode=" + "7" * 5000)
@example("--mount", "type=tmpfs,target=/a,tmpfs-mode=1_7")
def test_what_cannot_be_read_is_wrong_usage(parser: str, text: str) -> None:
    found = outcome(lambda: PARSERS[parser](text), StoreError)
    if isinstance(found, StoreError):
        assert found.exit_status == 2
        assert is_one_line(found)
    if isinstance(found, MountSpec):
        assert_sound(found)


def assert_sound(spec: MountSpec) -> None:
    assert spec.target.startswith("/")
    assert not {"", ".", ".."} & set(spec.target.split("/")[1:])
    assert "\0" not in spec.target + (spec.source or "")
    assert MountSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert merged_mounts([spec]) == (spec,)
    assert inherited([spec], None)[0].target == spec.target


@effort(100)
@given(texts=st.lists(SPECIFICATIONS, max_size=5), volumes=st.lists(TEXTS | st.just("/a/b"), max_size=2))
def test_mounts_together_have_one_for_each_target(texts: list[str], volumes: list[str]) -> None:
    parsers: list[Callable[[str], MountSpec]] = [parse_short, parse_long, parse_tmpfs]
    found = [outcome(partial(parse, text), StoreError) for text in texts for parse in parsers]
    specs = [spec for spec in found if isinstance(spec, MountSpec)]
    merged = outcome(lambda: merged_mounts(specs, (), volumes), StoreError)
    if isinstance(merged, StoreError):
        assert merged.exit_status == 2
        return
    targets = [spec.target for spec in merged]
    assert len(set(targets)) == len(targets)
    # What lies inside another comes after it.
    assert targets == sorted(targets, key=lambda target: target.split("/"))


@effort(150)
@given(text=TEXTS | st.text("aZ0_.-/", max_size=10))
def test_name_of_a_volume_is_one_of_a_directory_in_its_place(text: str) -> None:
    if is_name(text):
        assert text.isascii()
        assert "/" not in text
        assert not text.startswith(".")
        assert len(text) <= 255


@pytest.fixture(scope="module")
def drivers(new_directory: Callable[..., Path]) -> Any:
    with Store(new_directory(keep=True) / "store") as store:
        yield [LocalDriver(), OverlayDriver(store)]


OPTIONS = st.dictionaries(
    st.sampled_from(["type", "device", "o", "size", "lower", "image", "volume"]) | TEXTS,
    st.sampled_from(["tmpfs", "/a", "/a:/b", "ro,bind", "bind", "name", "image:1", "9" * 5000, "10G", "rbind,ro", "a\\:b", ":"])
    | TEXTS,
    max_size=4,
)


@effort(200)
@given(options=OPTIONS)
@example({"o": "bind", "device": "", "type": "none"})
@example({"lower": "/a\0b"})
def test_options_of_volumes_are_taken_or_refused(drivers: list[VolumeDriver], options: dict[str, str]) -> None:
    for driver in drivers:
        refused = outcome(partial(driver.check, options), StoreError)
        if isinstance(refused, StoreError):
            assert refused.exit_status == 2
        else:
            outcome(partial(driver.bases, options), MounterError)
