"""System calls that Python's ``os`` lacks: one file a subject, each function with the errors it raises.

``rename``        renameat2(2)
``links``         names for open files
``clone``         reflinks
``allocate``      fallocate(2)
``inode_flags``   flags of chattr(1)
``statx``         the time of birth
``handles``       name_to_handle_at(2), open_by_handle_at(2)
``openat2``       openat2(2)
``syncfs``        syncfs(2)
``overlay_mount`` mounting the kernel's OverlayFS by fsconfig(2)
``btrfs``         subvolumes
``mount``         mount(2), umount2(2), private copies of mounts
``mountinfo``     /proc/self/mountinfo
``capabilities``  capabilities and the user namespace
``statfs``        the kind of a filesystem
``times``         utimensat(2)
``scheduling``    sched_setattr(2)
``cpu_latency``   keeping idle processors awake
``libc``          the C library itself
"""
