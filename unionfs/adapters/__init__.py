"""Interfaces of others that we serve, so that their programs use what is ours without knowing it.

``volume_plugin/``  docker's volume plugin protocol: our volumes in dockerd and podman.
"""
