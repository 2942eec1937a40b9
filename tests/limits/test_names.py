"""Every byte but the slash and NUL in names, and names of NAME_MAX bytes, through all that stores or prints them."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from tests.behaviour.union import Mounted
from tests.mounts import run_unionfs

from .mounted import check, mounting
from .scale import FULL

_FORBIDDEN = {0, ord("/")}
_NAME_MAX = 255


def _all_names() -> list[bytes]:
    """Single bytes (each of them in the full run), random bytes, all bytes at once, invalid UTF-8, and the longest names; the
    same at each run."""
    chance = random.Random(7)  # noqa: S311  the same names at each run, nothing secret
    allowed = [byte for byte in range(256) if byte not in _FORBIDDEN]
    singles = [bytes([byte]) for byte in (allowed if FULL else b'\x01\n\r \\"#%*:,=\x7f\x80\xfe\xff') if byte != ord(".")]
    noise = [bytes(chance.choices(allowed, k=length)) for length in (2, 3, 17, 100, 251, 252, _NAME_MAX)]
    everything = bytes(allowed)
    longest = [b"n" * _NAME_MAX, b"\xff" * _NAME_MAX, "\u00e4".encode() * 127 + b"x", b"w" * 251, b"w" * 252]
    return sorted({*singles, *noise, everything, *longest, b"\xed\xa0\x80", b"\xc0\xaf", b"%2f\n=\\x2f"})


NAMES = _all_names()


def _fill(directory: Path) -> None:
    top = os.fsencode(directory)
    for name in NAMES:
        os.mkdir(os.path.join(top, name))
        with open(os.path.join(top, name, b"f"), "wb") as file:
            file.write(name)


def test_every_name_of_a_lower_is_copied_up_and_found_after_a_remount(unmounted: Mounted) -> None:
    _fill(unmounted.lowers[0])
    top = os.fsencode(unmounted.merged)
    with mounting(unmounted):
        assert sorted(os.listdir(top)) == NAMES
        for name in NAMES:
            os.chmod(os.path.join(top, name, b"f"), 0o600)
    with mounting(unmounted):
        for name in NAMES:
            path = os.path.join(top, name, b"f")
            assert os.stat(path).st_mode & 0o777 == 0o600
            with open(path, "rb") as file:
                assert file.read() == name
    assert sorted(os.listdir(os.fsencode(unmounted.upper))) == NAMES


def test_every_name_has_a_whiteout_that_holds_after_a_remount(unmounted: Mounted) -> None:
    _fill(unmounted.lowers[0])
    top = os.fsencode(unmounted.merged)
    with mounting(unmounted):
        for name in NAMES:
            os.unlink(os.path.join(top, name, b"f"))
            os.rmdir(os.path.join(top, name))
    with mounting(unmounted):
        assert os.listdir(top) == []
        os.mkdir(os.path.join(top, NAMES[-1]))
        assert os.listdir(os.path.join(top, NAMES[-1])) == []


def test_every_name_stands_in_a_redirect(unmounted: Mounted) -> None:
    _fill(unmounted.lowers[0])
    top = os.fsencode(unmounted.merged)
    with mounting(unmounted, "redirect_dir=on", "index=on"):
        for number, name in enumerate(NAMES):
            os.rename(os.path.join(top, name), os.path.join(top, b"moved%d" % number))
    with mounting(unmounted, "redirect_dir=on", "index=on"):
        for number, name in enumerate(NAMES):
            with open(os.path.join(top, b"moved%d" % number, b"f"), "rb") as file:
                assert file.read() == name
    check(unmounted)


def test_every_name_may_be_one_of_a_hard_link_in_the_index(unmounted: Mounted) -> None:
    top, lower = os.fsencode(unmounted.merged), os.fsencode(unmounted.lowers[0])
    with open(os.path.join(lower, b"first"), "wb") as file:
        file.write(b"before")
    for name in NAMES:
        os.link(os.path.join(lower, b"first"), os.path.join(lower, name))
    with mounting(unmounted, "index=on"):
        with open(os.path.join(top, NAMES[0]), "ab") as file:
            file.write(b" and after")
        for name in NAMES:
            with open(os.path.join(top, name), "rb") as file:
                assert file.read() == b"before and after"
        assert os.stat(os.path.join(top, NAMES[5])).st_nlink == len(NAMES) + 1
    check(unmounted)


def test_commands_print_every_name_as_json(unmounted_ours: Mounted) -> None:
    _fill(unmounted_ours.lowers[0])
    top = os.fsencode(unmounted_ours.merged)
    with mounting(unmounted_ours):
        for name in (b"\xff" * _NAME_MAX, b"n" * _NAME_MAX, b"\n", b"\xed\xa0\x80"):
            os.chmod(os.path.join(top, name, b"f"), 0o600)
            answer = json.loads(run_unionfs(["explain", "--json", Path(os.fsdecode(os.path.join(top, name, b"f")))]))
            assert answer
