"""dockerd, podman and our own commands on one plugin at the same time."""

from __future__ import annotations

from tests.dropin.conftest import Place, needs
from tests.dropin.test_docker_volumes import docker_of
from tests.dropin.test_podman_volumes import podman_of
from tests.dropin.volume_plugin import served

pytestmark = needs("dockerd", "docker", "containerd", "runc", "podman")


def test_docker_and_podman_share_a_volume_and_neither_removes_it_under_the_other(place: Place) -> None:
    with served(place) as plugin, docker_of(place, plugin) as docker, podman_of(place, plugin) as podman:
        docker.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
        podman.create("fast", "type=tmpfs", "device=tmpfs", "o=size=1m")
        podman.sleeper("one", "-v", "fast:/data")
        docker.sleeper("two", "-v", "fast:/data")
        podman("exec", "one", "sh", "-c", "echo podman > /data/file")
        assert docker("exec", "two", "cat", "/data/file") == "podman\n"
        docker.remove_containers()
        # No podman runs now, and docker has no container that names the volume.
        assert "the volume is in use by plugin" in docker.refusal("volume", "rm", "fast")
        assert podman("exec", "one", "cat", "/data/file") == "podman\n"
        docker.sleeper("two", "-v", "fast:/data")
        podman.remove("one")
        assert "the volume is in use by plugin" in podman.refusal("volume", "rm", "fast")
        assert docker("exec", "two", "cat", "/data/file") == "podman\n"
        docker.remove_containers()
        assert not plugin.is_mounted("fast")
        docker("volume", "rm", "fast")
        # It was podman's, too, which learns it when it wants to remove it.
        assert "it has been removed from Podman" in podman.refusal("volume", "rm", "fast")
    place.check_nothing_is_left()
