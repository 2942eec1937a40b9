"""Containers: an image's layers under a writable one, run by an OCI runtime (runc or crun).

Layout, from the bottom up:

``options``         what the user of ``run`` asks for.
``names``           names of containers.
``users``           the user that a name means inside an image.
``status``          what a container does now, in a file of its directory.
``container``       the records of containers.
``process``, ``mounts``, ``bundle``   the runtime's ``config.json``, after docker's defaults.
``host_files``      /etc/hosts and the like.
``rootless``        what is different without the rights of root of the machine.
``runtime``         runc and crun.
``cgroups``         what a runtime may leave of its cgroups.
``mount_specs/``    the grammars of -v, --mount, --tmpfs and --volumes-from.
``propagation``, ``relabel``, ``volumes``   what is mounted in a container, made ready and undone.
``signal_pause``    stopping a container without a freezer cgroup.
``container_log``   what a container has written, in lines of JSON.
``frames``          how the monitor and the command in the foreground talk.
``subreaper``       who is left of a container.
``relay``           standard input and output of a running container.
``teardown``        undoing what was made for a container, and removing it.
``init_layer``      the places that the runtime mounts on, kept out of the container's own changes.
``monitor``         the process that belongs to each container.
``attached``        the command in the foreground.
``recovery``        what is done where a monitor was killed.
``lifecycle``       run, stop, rm, exec: the commands.
``lower_lookup``, ``changes``, ``diff_target``   what a writable layer changes.
``commit``, ``export``   a container as an image, or as a root filesystem.

On disk, in ``containers/ID`` of the store: ``config.json`` (the bundle), ``rootfs`` (where it is mounted while it runs),
``status.json``, ``log.json``, ``runtime/`` (state of runc or crun), ``hosts``, ``hostname``, ``resolv.conf``.
"""
