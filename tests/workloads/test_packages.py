"""dpkg and apt: unpacking beside the old file and renaming over it, hard links as backups, fsync of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from .machine import Machine

FILES = 60

CONTROL = """Package: unionfs-probe
Version: {version}
Architecture: all
Maintainer: The unionfs authors <unionfs@example.org>
Description: a package to install into a union
"""


def build_package(machine: Machine, directory: Path, version: str) -> str:
    """Make a package with files, a hard link, a symbolic link, a configuration file and a maintainer script; its path inside."""
    source = directory / version
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN/control").write_text(CONTROL.format(version=version))
    (source / "DEBIAN/conffiles").write_text("/etc/unionfs-probe.conf\n")
    script = source / "DEBIAN/postinst"
    script.write_text(f"#!/bin/sh\nset -e\necho {version} $1 >>/var/lib/unionfs-probe.log\n")
    script.chmod(0o755)
    (source / "etc").mkdir()
    (source / "etc/unionfs-probe.conf").write_text(f"version={version}\n")
    data = source / "usr/share/unionfs-probe"
    data.mkdir(parents=True)
    for number in range(FILES):
        (data / f"file{number}").write_text(f"{version} {number}\n" * 100)
    (data / "link").hardlink_to(data / "file0")
    (data / "symlink").symlink_to("file1")
    inside = f"/{directory.name}/{version}"
    machine.run("dpkg-deb", "--root-owner-group", "--build", inside, f"{inside}.deb")
    return f"{inside}.deb"


def installed_version(machine: Machine) -> str:
    return machine.run("dpkg-query", "--show", "--showformat=${Version}", "unionfs-probe")


@pytest.mark.timeout(300)
def test_packages_are_installed_upgraded_and_removed(machine: Machine) -> None:
    directory = machine.make_directory("/packages")
    data = machine.path("/usr/share/unionfs-probe")
    old, new = build_package(machine, directory, "1.0"), build_package(machine, directory, "2.0")

    machine.run("dpkg", "--install", old)
    assert installed_version(machine) == "1.0"
    assert (data / "file0").samefile(data / "link")

    machine.run("apt-get", "install", "--yes", new)
    assert installed_version(machine) == "2.0"
    assert (data / f"file{FILES - 1}").read_text().startswith("2.0")
    assert machine.run("dpkg", "--verify", "unionfs-probe") == ""
    assert machine.path("/var/lib/unionfs-probe.log").read_text().splitlines() == ["1.0 configure", "2.0 configure"]

    machine.run("apt-get", "purge", "--yes", "unionfs-probe")
    assert not data.exists()
    assert not machine.path("/etc/unionfs-probe.conf").exists()


@pytest.mark.timeout(300)
def test_package_of_a_lower_layer_is_removed(machine: Machine) -> None:
    assert machine.path("/usr/bin/rsync").exists()
    # Enough of it stays for the tests that run rsync: the program is put back from a copy.
    machine.run("sh", "-c", "cp -a /usr/bin/rsync /root/rsync && dpkg --remove rsync")
    assert not machine.path("/usr/bin/rsync").exists()
    assert not machine.path("/usr/share/doc/rsync/examples").exists()
    machine.run("mv", "/root/rsync", "/usr/bin/rsync")
    assert machine.run("dpkg", "--audit") == ""
