"""Options of mounts, in the three dialects: a request to mount, or a word about what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import example, given

from tests.fuzz.bounds import is_one_line, outcome
from tests.fuzz.effort import effort
from tests.fuzz.strategies import TEXTS
from unionfs.mounter.errors import OptionError
from unionfs.mounter.options import Dialect, parse_options
from unionfs.mounter.request import MountRequest, build_request

NAMES = (
    *("lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "transport", "data_path", "stack_depth", "spin", "size"),
    *("max_inodes", "timeout", "fsync", "sync", "redirect_dir", "whiteout", "metacopy", "index", "uidmapping", "gidmapping"),
    *("squash_to_uid", "squash_to_gid", "xattr_permissions", "noxattrs", "fsname", "log", "plugins", "nfs_export", "verity"),
    *("remount", "defaults", "xino", "ro", "rw", "suid", "nosuid", "acl", "noacl", "volatile", "userxattr", "allow_other"),
    *("allow_root", "squash_to_root", "static_nlink", "ino32_t", "threaded", "max_read", "private", "rshared", "x-gvfs", "user"),
)
VALUES = st.sampled_from(
    [
        *(
            "",
            "/a",
            "/a:/b",
            "/a::/b",
            "/a:",
            ":/a",
            "\\",
            "/a\\:b",
            "on",
            "off",
            "auto",
            "1",
            "0",
            "-1",
            "0:0:1",
            ":0:1:2",
            "1e9",
        ),
        *(
            "nan",
            "inf",
            "-inf",
            "1e999",
            "9" * 5000,
            "1_0",
            " 1",
            "\u0661",
            "0:0:4294967295",
            "500M",
            "1t",
            "999999999999999t",
            "0x10",
        ),
        *("2", "follow", "dev", "wh", "pyfuse3", "passthrough", "volatile", "strict", "1" * 20 + ":0:1", "0:0:0"),
    ]
)
WORDS = st.builds(
    lambda name, separator, value: f"{name}{separator}{value}" if separator else name,
    st.sampled_from(NAMES) | TEXTS,
    st.sampled_from(["=", "=", "=", "", "=="]),
    VALUES | TEXTS,
)
ARGUMENTS = st.lists(st.lists(WORDS, max_size=5).map(",".join) | st.text(",=:\\ab1", max_size=20), max_size=3)


@effort(400)
@given(arguments=ARGUMENTS, dialect=st.sampled_from(Dialect), is_lenient=st.sampled_from([None, True, False]))
@example(["squash_to_uid=²"], Dialect.UNIONFS, None)
@example(["allow_root"], Dialect.UNIONFS, None)
@example(["noxattrs,noxattrs=1"], Dialect.UNIONFS, None)
@example(["timeout=" + "9" * 5000], Dialect.MOUNT_HELPER, None)
@example(["spin=" + "9" * 5000], Dialect.FUSE_OVERLAYFS, None)
def test_options_make_a_request_or_are_refused(arguments: list[str], dialect: Dialect, is_lenient: bool | None) -> None:
    def request() -> MountRequest:
        options = parse_options(arguments, dialect, ignore_unknown=is_lenient)
        return build_request(options, Path("/m"), dialect=dialect, lowers=() if options.lowers else (Path("/l"),))

    found = outcome(request, OptionError)
    if isinstance(found, MountRequest):
        assert_whole(found)
    else:
        assert found.exit_status == 2
        assert is_one_line(found)


def assert_whole(request: MountRequest) -> None:
    assert request.lowers
    assert request.timeout is None or 0 <= request.timeout <= 1e9
    assert request.size is None or 0 < request.size < 1 << 63
    assert request.spin_us is None or 0 <= request.spin_us <= 1_000_000
    assert request.work is None or request.upper is not None
    assert not (request.allow_other and request.allow_root)
    owners = request.union.owners
    ids = [owners.squash_uid, owners.squash_gid, *(range_.shown for range_ in (*owners.uids, *owners.gids))]
    assert all(number is None or 0 <= number < 0xFFFFFFFF for number in ids)
    assert dataclasses.asdict(request.union)["max_inodes"] >= 0
