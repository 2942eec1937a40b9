"""/etc/passwd and /etc/group of images: made by whoever made the image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import example, given

from tests.fuzz.bounds import is_one_line, outcome
from tests.fuzz.effort import effort
from tests.fuzz.strategies import TEXTS, damaged
from unionfs.containers.users import find_user
from unionfs.store.errors import StoreError

HIGHEST_ID = (1 << 32) - 2
IDS = st.sampled_from(["0", "7", "1000", "4294967294", "4294967295", "4294967296", "²", "٣", "-1", "", "9" * 5000, " 7", "+7"])
NAMES = st.sampled_from(["root", "alice", "0", "7", "", "²", "a,b", "#x", "\x1c", "9" * 5000]) | TEXTS
LINES = st.lists(NAMES | IDS, max_size=8).map(":".join)
TABLES = st.lists(LINES, max_size=5).map("\n".join).map(lambda text: text.encode(errors="surrogatepass"))
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:\n7:x:8:9::/:\n"
GROUP = b"root:x:0:\nwheel:x:10:alice,root\nalice:x:1000:\n"
USERS = st.builds(lambda user, separator, group: user + separator + group, NAMES | IDS, st.sampled_from([":", ""]), NAMES | IDS)


@effort(250)
@given(passwd=damaged(PASSWD) | TABLES, group=damaged(GROUP) | TABLES, user=USERS)
@example(b"a:x:\xc2\xb2:0::/:\n", GROUP, "7")
@example(b"a:x:" + b"9" * 5000 + b":0::/:\n", GROUP, "a")
@example(b"a:x:4294967295:0::/:\n", GROUP, "a")
@example(PASSWD, b"a:x:4294967295:alice\n", "alice")
@example(PASSWD, b"a:x:\xc2\xb2:alice\n", "alice:\xb2")
@example(PASSWD, GROUP, "9" * 5000)
def test_user_has_ids_that_processes_can_have(new_directory: Callable[..., Path], passwd: bytes, group: bytes, user: str) -> None:
    rootfs = new_directory()
    (rootfs / "etc").mkdir()
    (rootfs / "etc/passwd").write_bytes(passwd)
    (rootfs / "etc/group").write_bytes(group)
    found = outcome(lambda: find_user(rootfs, user), StoreError)
    if isinstance(found, StoreError):
        assert is_one_line(found)
        return
    assert all(0 <= number <= HIGHEST_ID for number in (found.uid, found.gid, *found.groups))
    assert found.home


def test_files_of_users_may_be_anything(new_directory: Callable[..., Path]) -> None:
    rootfs = new_directory()
    (rootfs / "etc").mkdir()
    os.mkfifo(rootfs / "etc/passwd")
    (rootfs / "etc/group").symlink_to("/proc/self/root/etc/group")
    assert find_user(rootfs, "5:6")[:2] == (5, 6)
