"""What the two transports have in common: how a session is set up, run and looked at.

A *session* serves one mount until the kernel ends the connection.  `unionfs.fuse.direct_session` and
`unionfs.fuse.pyfuse3_session` each have one; this module imports neither, so that a daemon loads only the one it uses, and not
trio, which the direct transport loads when the mount is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from unionfs.filesystem import Notice
from unionfs.fuse.request_times import Times

if TYPE_CHECKING:
    import trio

DataPath = Literal["auto", "passthrough", "cached"]

FOREVER = 1e9
"""Seconds: 31 years.  The kernel turns validity times into jiffies and cuts off what does not fit; this is far from that."""


class SessionError(Exception):
    """A session cannot start: the kernel lacks something, or what was asked for is impossible here.  One line, and the remedy."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a user may choose of a session.  Times are in seconds unless the name says otherwise."""

    data_path: DataPath = "auto"
    """How file data reaches the kernel.  ``passthrough``: it uses the real files itself.  ``cached``: through its page cache with
    writeback.  ``auto``: passthrough where the kernel and our rights allow it."""

    writeback: bool = True
    """With the cached data path: whether the kernel may hold writes back.  If not, write(2) itself gets the errors of a write."""

    spin_us: int = 300
    """How long to busy-wait for the next request before sleeping, in microseconds; 0 never does.  See `unionfs.fuse.spin`."""

    stack_depth: int = 1
    """``max_stack_depth`` of passthrough, 1 or 2.  With 1 another stacking filesystem (OverlayFS) may use this mount as a layer;
    with 2 the layers may lie on one themselves.  The kernel's limit is 2 in all."""

    acl: bool = True
    """Whether the kernel heeds POSIX access control lists; if not, they are attributes without meaning."""

    entry_timeout: float = FOREVER
    """How long the kernel may trust a name it looked up.  Nobody else writes to the layers of a union, so for ever is right."""

    attr_timeout: float = FOREVER
    """How long the kernel may trust attributes."""

    negative_timeout: float = FOREVER
    """How long the kernel may trust that a name does not exist."""

    def __post_init__(self) -> None:
        if self.stack_depth not in (1, 2):
            raise ValueError(f"stack depth {self.stack_depth}: the kernel allows 1 or 2")
        if self.spin_us < 0:
            raise ValueError(f"busy-waiting for {self.spin_us} µs: use 0 to turn it off")


class Session(Protocol):
    """One mount being served."""

    @property
    def negotiated(self) -> dict[str, object]:
        """What INIT settled; JSON-able, empty before.  Keys: ``transport`` (``direct``, ``pyfuse3``), ``protocol`` (``7.45``),
        ``flags`` (list of words such as ``readdirplus``), ``data_path`` (``passthrough``, ``cached``), ``max_write`` (bytes),
        ``spin_us``, ``stack_depth`` (0 without passthrough), ``prune`` (whether the kernel can be asked to forget nodes)."""

    @property
    def counters(self) -> dict[str, int]:
        """How many requests of each kind there were (``lookup``, ``read``, …), and besides ``errors`` (answered with an errno),
        ``failures`` (of those: exceptions that no filesystem may raise) and ``blocking`` (had to wait for work in a thread), and
        ``asked_to_forget``: about how many nodes the kernel was asked that (`unionfs.filesystem.Forgettable`)."""

    @property
    def times(self) -> dict[str, Times]:
        """The same by kind, with how long they took; see `unionfs.fuse.request_times`."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None:
        """Serve until the kernel ends the connection (unmounted or aborted).  ``task_status.started()`` is called when INIT is
        answered, that is when the mount is usable.  Returns only when no work is running any more.

        Raises:
            SessionError: there is no session; the mount is unusable and the caller must take it away.
        """

    async def tell(self, notices: Sequence[Notice]) -> None:
        """Make the kernel forget what is no longer so, while requests go on being answered; it has when this returns.

        Real files that the kernel holds though nobody has them open are let go of as well.  Errors are logged; a node that
        the kernel does not know, or a connection that has ended, is none.
        """

    async def forget_unknown(self, nodes: Collection[int], nlookup: Callable[[int], int]) -> None:
        """Take those of ``nodes`` for forgotten that the kernel does not know any more, though nothing was heard of that: a
        worker that was killed may have read it.  ``nlookup``: how often one was looked up, now.
        """
