"""The programs ``unionfs``, ``fuse-unionfs`` and ``mount.unionfs``: parse, call `unionfs.mounter`, print.

One file a command or program; ``program`` ends them all (errors in one line, exit status), ``output`` prints.
"""
