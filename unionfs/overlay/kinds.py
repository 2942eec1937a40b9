"""Types of directory entries, as ``d_type`` of readdir(3) has them (``st_mode >> 12``)."""

from __future__ import annotations

UNKNOWN = 0
"""Only in listings: whoever wants to know must ask stat(2)."""
FIFO = 1
CHR = 2
DIR = 4
BLK = 6
REG = 8
LNK = 10
SOCK = 12
WHT = 14
"""A whiteout.  No system call returns it on Linux; here it stands for all the forms in which a layer may hold one."""

WHITEOUT_RDEV = 0
"""A character device with this number is a whiteout (Documentation/filesystems/overlayfs.rst)."""
