"""What the direct session agrees on with the kernel in INIT, and why.

The traps that decided the sets below, each found in fs/fuse of Linux 6.18 (docs/direct-transport.md has more):

* Passthrough is dropped without a word if WRITEBACK_CACHE is answered too (inode.c, process_init_reply).
* Zero-message open (OPEN answered ENOSYS) with ATOMIC_O_TRUNC would lose O_TRUNC: the kernel leaves the truncation to an OPEN
  that is never sent.  Without the flag it sends SETATTR.
* Zero-message open is for the whole connection, and has no open file that a backing id could belong to: no passthrough.
* HANDLE_KILLPRIV_V2 is also what lets the kernel mark inodes as free of security.capability (SB_NOSEC); without it each write
  asks for that attribute.
* DONT_MASK must go along with POSIX_ACL: where the parent has a default ACL, the umask does not apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unionfs.fuse.protocol import KERNEL_MINOR_VERSION, KERNEL_VERSION, OLDEST_MINOR_VERSION, PRUNE_MINOR_VERSION, InitFlag
from unionfs.fuse.session import DataPath, SessionError, SessionSettings
from unionfs.fuse.wire import InitRequest, encode_init

MAX_PAGES = 256
MAX_WRITE = MAX_PAGES * 4096
"""Bytes a WRITE (and a READ) may carry: the most that an unprivileged server gets (FUSE_DEFAULT_MAX_PAGES_LIMIT)."""
MAX_BACKGROUND = 64
"""Requests nobody waits for (readahead, writeback, RELEASE) in the queue at a time; the kernel's 12 starves readahead."""

_ALWAYS = (
    InitFlag.ASYNC_READ
    | InitFlag.BIG_WRITES
    | InitFlag.DONT_MASK
    | InitFlag.READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.HANDLE_KILLPRIV_V2
    | InitFlag.SETXATTR_EXT
    | InitFlag.INIT_EXT
    | InitFlag.HAS_RESEND
)
_PASSTHROUGH = InitFlag.PASSTHROUGH | InitFlag.ATOMIC_O_TRUNC
_CACHED = InitFlag.WRITEBACK_CACHE | InitFlag.NO_OPEN_SUPPORT


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The outcome of INIT."""

    minor: int
    flags: InitFlag
    max_readahead: int
    data_path: Literal["passthrough", "cached"]
    stack_depth: int
    """0 without passthrough."""
    can_prune: bool
    """Whether the kernel can be asked to forget nodes."""

    @property
    def can_resend(self) -> bool:
        """Whether the kernel can be asked to send unanswered requests again."""
        return bool(self.flags & InitFlag.HAS_RESEND)

    def encode(self) -> bytes:
        """The payload of the reply."""
        return encode_init(self.minor, self.max_readahead, self.flags, MAX_BACKGROUND, MAX_WRITE, MAX_PAGES, self.stack_depth)

    def describe(self) -> dict[str, object]:
        """As `unionfs.fuse.session.Session.negotiated` has it, without what is not of INIT."""
        return {
            "protocol": f"{KERNEL_VERSION}.{self.minor}",
            "flags": [flag.name.lower() for flag in InitFlag if flag in self.flags and flag.name],
            "data_path": self.data_path,
            "max_write": MAX_WRITE,
            "stack_depth": self.stack_depth,
            "prune": self.can_prune,
        }


def negotiate(offer: InitRequest, settings: SessionSettings, may_register_backing: bool) -> Negotiated:
    """Choose from what the kernel offers.  ``may_register_backing``: whether this process has the right to BACKING_OPEN.

    Raises:
        SessionError: the kernel is too old, or the data path asked for is not possible.
    """
    if (offer.major, offer.minor) < (KERNEL_VERSION, OLDEST_MINOR_VERSION):
        raise SessionError(
            f"the kernel speaks FUSE {offer.major}.{offer.minor}, {KERNEL_VERSION}.{OLDEST_MINOR_VERSION} is needed;"
            " use Linux 5.4 or newer"
        )
    passthrough = _use_passthrough(settings.data_path, bool(offer.flags & InitFlag.PASSTHROUGH), may_register_backing)
    cached = _CACHED if settings.writeback else InitFlag.NO_OPEN_SUPPORT
    wanted = _ALWAYS | (_PASSTHROUGH if passthrough else cached) | (InitFlag.POSIX_ACL if settings.acl else InitFlag(0))
    return Negotiated(
        minor=min(offer.minor, KERNEL_MINOR_VERSION),
        flags=wanted & offer.flags,
        max_readahead=offer.max_readahead,
        data_path="passthrough" if passthrough else "cached",
        stack_depth=settings.stack_depth if passthrough else 0,
        can_prune=offer.minor >= PRUNE_MINOR_VERSION,
    )


def _use_passthrough(data_path: DataPath, offered: bool, may_register_backing: bool) -> bool:
    if data_path == "passthrough":
        if not offered:
            raise SessionError("data path passthrough: the kernel does not offer it; use Linux 6.9 or newer, or data path cached")
        if not may_register_backing:
            raise SessionError(
                "data path passthrough: needs CAP_SYS_ADMIN in the initial user namespace; mount as root, or use data path cached"
            )
        return True
    return data_path == "auto" and offered and may_register_backing
