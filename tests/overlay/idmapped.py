"""Idmapped mounts (mount_setattr(2)), which mount(8) of util-linux before 2.39 cannot make."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_MOUNT_ATTR_IDMAP = 0x00100000

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@contextmanager
def idmapped(source: Path, target: Path, shown: int, count: int) -> Iterator[None]:
    """``source`` bound to ``target``, where ids 0 … ``count`` of the disk are those from ``shown`` on."""
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        # What it sends back tells that it is in the namespace.
        owner.stdin.write(b"x")
        owner.stdin.flush()
        assert owner.stdout.read(1) == b"x"
        for kind in ("uid", "gid"):
            Path(f"/proc/{owner.pid}/{kind}_map").write_text(f"0 {shown} {count}\n")
        namespace = os.open(f"/proc/{owner.pid}/ns/user", os.O_RDONLY)
        owner.stdin.close()
    tree = _syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE)
    try:
        attributes = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
        _syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.sizeof(attributes))
        _syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)
        os.close(namespace)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True, timeout=60)
