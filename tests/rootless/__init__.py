"""Mounts without rights over the machine: as a user with fusermount3, and as root of a user namespace."""
