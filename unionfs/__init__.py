"""unionfs: a union filesystem in userspace.

General layout, from the bottom up; ``tests/test_layout.py`` fails on an import this list does not allow:

``filesystem``  the filesystem contract: what a transport may ask of a union, and what it gets.  Imports nothing of ours.
``linux/``      system calls that Python's ``os`` lacks.  Imports nothing of ours.
``journal/``    what a process must know to go on where another one was killed.  Imports ``linux``.
``overlay/``    what a union of directories means.  Synchronous; knows no FUSE.  Imports ``filesystem``, ``linux`` and
                ``journal``.
``fuse/``       how requests reach a filesystem: wire format, the two sessions, mount(2) and fusermount3.  Imports
                ``filesystem``, ``linux`` and ``journal``.
``check/``      what may be wrong in the upper of a union that is not mounted, and how it is repaired.  Imports ``linux`` and
                ``overlay``.
``mounter/``    what makes a mount of it all: options, checks before mounting, the daemon, its control socket.  Imports
                everything above but ``check``.
``bench/``      the benchmark: compares unions that are mounted by running their programs, ours too.  Imports ``linux``.
``store/``      layers, images and snapshots on disk, content-addressed, metadata in SQLite.  Imports ``linux`` and
                ``mounter``: it asks that for a mount, and knows nothing of how a union works.
``rootless/``   being root of a user namespace: made, or joined, by the commands of a user.  Imports ``linux`` and ``mounter``.
``volumes/``    directories that outlive containers: their drivers, and who uses them.  Imports ``linux``, ``mounter`` and
                ``store``; knows users of volumes by a word, and nothing of containers.
``containers/`` bundles for runc or crun out of an image, a snapshot, mounts and volumes, and the life of a container.  Imports
                ``linux``, ``mounter``, ``store`` and ``volumes``.
``adapters/``   one folder for each foreign interface that we serve (docker's volume plugins).  Imports ``linux``, ``mounter``,
                ``store`` and ``volumes``.
``cli/``        (top-level folder, installed as ``unionfs.cli``) click commands.  Imports everything above; imported by nothing.
"""
