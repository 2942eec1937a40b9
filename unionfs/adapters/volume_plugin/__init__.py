"""A volume plugin: dockerd, podman and others that speak docker's volume plugin protocol use our volumes.

Layout, from the bottom up:

``peers``      who is at the other end of a connection, and which uses of volumes are over although nobody has said so.
``calls``      the calls of the protocol, on a `unionfs.volumes.VolumeManager`.
``exchange``   one request and its answer over HTTP.
``sockets``    the socket: systemd's, or one of our own.
``server``     a process for each request.
"""
