"""The files about names and addresses that a container gets: /etc/hosts, /etc/hostname, /etc/resolv.conf."""

from __future__ import annotations

from pathlib import Path

from unionfs.containers.options import Network

_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

PLACES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def write_host_files(directory: Path, hostname: str, network: Network) -> dict[str, Path]:
    """Make the files of a container in its ``directory``; them by their paths in the container.

    With the host's network it is the host's hosts and resolv.conf, as they are now; without one there is nobody to ask for names.

    Raises:
        OSError: one cannot be read or written.
    """
    contents = {
        "/etc/hostname": f"{hostname}\n",
        "/etc/hosts": _of_host("/etc/hosts") if network == "host" else f"{_HOSTS}127.0.1.1\t{hostname}\n",
        "/etc/resolv.conf": _of_host("/etc/resolv.conf") if network == "host" else "",
    }
    made = {}
    for place, text in contents.items():
        made[place] = directory / Path(place).name
        made[place].write_text(text, errors="surrogateescape")
        made[place].chmod(0o644)
    return made


def _of_host(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except FileNotFoundError:
        return ""
