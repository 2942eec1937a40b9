"""/dev/cpu_dma_latency: how long an idle processor may take to wake up (Documentation/power/pm_qos_interface.rst of Linux).

While a process asks for 0 µs, idle processors poll instead of halting: whoever is woken runs at once.  In a virtual machine,
where halting means leaving it, that is most of what a wake-up costs.  It lasts until the process asks for something else, or
ends.
"""

from __future__ import annotations

import os
import struct

_PATH = "/dev/cpu_dma_latency"
_AT_ONCE = struct.pack("=i", 0)
_ANY = struct.pack("=i", 2_000_000_000)  # PM_QOS_CPU_LATENCY_DEFAULT_VALUE of include/linux/pm_qos.h


class CpuLatency:
    """What this process asks for; at first nothing."""

    __slots__ = ("_fd", "is_held")

    def __init__(self) -> None:
        """Raises OSError: EACCES (only root may ask), ENOENT (the kernel has no power management, or a container hides it)."""
        self._fd = os.open(_PATH, os.O_WRONLY | os.O_CLOEXEC)
        self.is_held = False

    def hold(self) -> None:
        """From now on idle processors stay awake."""
        os.write(self._fd, _AT_ONCE)
        self.is_held = True

    def let_go(self) -> None:
        """They may sleep again."""
        os.write(self._fd, _ANY)
        self.is_held = False

    def close(self) -> None:
        """The same, for good."""
        os.close(self._fd)
