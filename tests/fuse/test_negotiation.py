from __future__ import annotations

import pytest

from unionfs.fuse.negotiation import MAX_WRITE, negotiate
from unionfs.fuse.protocol import InitFlag
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.fuse.wire import InitRequest

EVERYTHING = InitFlag(sum(InitFlag))


def offer(flags: InitFlag = EVERYTHING, minor: int = 45, major: int = 7) -> InitRequest:
    return InitRequest(major, minor, 131072, flags)


def test_auto_takes_passthrough_where_kernel_and_rights_allow() -> None:
    outcome = negotiate(offer(), SessionSettings(stack_depth=2), may_register_backing=True)
    assert (outcome.data_path, outcome.stack_depth) == ("passthrough", 2)
    assert InitFlag.PASSTHROUGH in outcome.flags
    assert InitFlag.ATOMIC_O_TRUNC in outcome.flags


@pytest.mark.parametrize(("flags", "may_register_backing"), [(EVERYTHING, False), (EVERYTHING & ~InitFlag.PASSTHROUGH, True)])
def test_auto_takes_the_cached_path_otherwise(flags: InitFlag, may_register_backing: bool) -> None:
    outcome = negotiate(offer(flags), SessionSettings(), may_register_backing)
    assert (outcome.data_path, outcome.stack_depth) == ("cached", 0)


def test_passthrough_and_writeback_cache_are_never_answered_together() -> None:
    passthrough = negotiate(offer(), SessionSettings(data_path="passthrough"), may_register_backing=True)
    cached = negotiate(offer(), SessionSettings(data_path="cached"), may_register_backing=True)
    assert InitFlag.WRITEBACK_CACHE not in passthrough.flags
    assert InitFlag.PASSTHROUGH not in cached.flags
    assert InitFlag.WRITEBACK_CACHE in cached.flags


def test_zero_message_open_leaves_truncation_to_setattr() -> None:
    cached = negotiate(offer(), SessionSettings(data_path="cached"), may_register_backing=True)
    assert InitFlag.ATOMIC_O_TRUNC not in cached.flags


def test_demanded_passthrough_without_the_right_is_an_error_with_the_remedy() -> None:
    with pytest.raises(SessionError, match=r"CAP_SYS_ADMIN.*use data path cached"):
        negotiate(offer(), SessionSettings(data_path="passthrough"), may_register_backing=False)


def test_demanded_passthrough_that_the_kernel_lacks_is_an_error_with_the_remedy() -> None:
    with pytest.raises(SessionError, match=r"does not offer it; use Linux 6\.9"):
        negotiate(offer(EVERYTHING & ~InitFlag.PASSTHROUGH), SessionSettings(data_path="passthrough"), True)


def test_without_acl_the_kernel_does_not_heed_them_but_leaves_the_umask_to_us() -> None:
    flags = negotiate(offer(), SessionSettings(acl=False), True).flags
    assert InitFlag.POSIX_ACL not in flags
    assert InitFlag.DONT_MASK in flags


def test_only_what_the_kernel_offers_is_answered() -> None:
    offered = InitFlag.ASYNC_READ | InitFlag.POSIX_ACL
    assert negotiate(offer(offered), SessionSettings(), True).flags == offered


def test_newer_kernel_gets_the_version_we_know() -> None:
    assert negotiate(offer(minor=99), SessionSettings(), True).describe()["protocol"] == "7.45"
    assert negotiate(offer(minor=31), SessionSettings(), True).describe()["protocol"] == "7.31"


@pytest.mark.parametrize(("minor", "can_prune"), [(44, False), (45, True), (99, True)])
def test_kernels_since_7_45_can_be_asked_to_forget(minor: int, can_prune: bool) -> None:
    assert negotiate(offer(minor=minor), SessionSettings(), True).can_prune is can_prune


def test_older_kernel_than_7_31_is_refused() -> None:
    with pytest.raises(SessionError, match=r"FUSE 7\.30.*use Linux 5\.4"):
        negotiate(offer(minor=30), SessionSettings(), True)


def test_description_is_in_words() -> None:
    description = negotiate(offer(InitFlag.ASYNC_READ), SessionSettings(), True).describe()
    assert description == {
        "protocol": "7.45",
        "flags": ["async_read"],
        "data_path": "cached",
        "max_write": MAX_WRITE,
        "stack_depth": 0,
        "prune": True,
    }
