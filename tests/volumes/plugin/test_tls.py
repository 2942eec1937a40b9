"""A plugin that listens on a network address is spoken to in TLS, and both sides know whom they speak to."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.volumes.plugin.conftest import LEISURELY, FakeClock, StartPlugin
from unionfs.volumes.drivers.plugin.client import PluginClient
from unionfs.volumes.drivers.plugin.discovery import PluginDirectories, find_plugin
from unionfs.volumes.drivers.plugin.errors import PluginError, PluginSilentError, PluginUnreachableError


def certificate(directory: Path, name: str, *options: str) -> tuple[str, str]:
    """A certificate that signs itself, for 127.0.0.1, and its key: paths."""
    paths = (str(directory / f"{name}.pem"), str(directory / f"{name}.key"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", paths[0], "-keyout", paths[1], *(options or ("-nodes",))),
        ],
        check=True,
        capture_output=True,
    )
    return paths


class Tls:
    """What the tests of this file need."""

    def __init__(self, directories: PluginDirectories, directory: Path) -> None:
        self.directories = directories
        self.server = certificate(directory, "server")
        self.client = certificate(directory, "client")
        self.clock = FakeClock()

    def client_of(self, port: str, **config: object) -> PluginClient:
        path = self.directories.files[0] / "nas.json"
        path.write_text(json.dumps({"Name": "nas", "Addr": f"https://127.0.0.1:{port}", "TLSConfig": config}))
        return PluginClient("nas", lambda: find_plugin("nas", self.directories), self.clock)


@pytest.fixture
def tls(directories: PluginDirectories, tmp_path: Path) -> Tls:
    return Tls(directories, tmp_path)


def test_plugin_with_the_certificate_of_our_authority_is_trusted(tls: Tls, start_plugin: StartPlugin) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server)
    client = tls.client_of(plugin.where, CAFile=tls.server[0])
    client.create("data", {"a": "b"}, LEISURELY)
    assert [volume.name for volume in client.volumes(LEISURELY)] == ["data"]


def test_plugin_with_another_certificate_is_not_and_hears_nothing(tls: Tls, start_plugin: StartPlugin) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server)
    client = tls.client_of(plugin.where, CAFile=tls.client[0])
    with pytest.raises(PluginUnreachableError, match=r"certificate verify failed.*TLSConfig"):
        client.volumes(LEISURELY)
    assert plugin.requests == []
    assert tls.clock.pauses == []


def test_certificate_for_another_host_is_refused(tls: Tls, start_plugin: StartPlugin) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server)
    path = tls.directories.files[0] / "nas.json"
    config = {"Addr": f"https://localhost:{plugin.where}", "TLSConfig": {"CAFile": tls.server[0]}}
    path.write_text(json.dumps(config))
    client = PluginClient("nas", lambda: find_plugin("nas", tls.directories), tls.clock)
    with pytest.raises(PluginUnreachableError, match="ostname mismatch"):
        client.volumes(LEISURELY)


@pytest.mark.parametrize("skips", [{}, {"InsecureSkipVerify": True}])
def test_verification_can_be_left_out_as_in_docker(tls: Tls, start_plugin: StartPlugin, skips: dict[str, object]) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server)
    assert tls.client_of(plugin.where, **skips).volumes(LEISURELY) == []


def test_plugin_that_wants_a_certificate_of_ours_gets_it(tls: Tls, start_plugin: StartPlugin) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server, tls.client[0])
    client = tls.client_of(plugin.where, CAFile=tls.server[0], CertFile=tls.client[0], KeyFile=tls.client[1])
    assert client.volumes(LEISURELY) == []


def test_plugin_that_wants_a_certificate_of_ours_refuses_without(tls: Tls, start_plugin: StartPlugin) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server, tls.client[0])
    # TLS 1.3 tells the client only after it has sent its request.
    with pytest.raises((PluginUnreachableError, PluginSilentError), match="volume plugin nas"):
        tls.client_of(plugin.where, CAFile=tls.server[0]).create("data", {}, LEISURELY)
    assert plugin.requests == []


def test_plugin_that_speaks_no_tls_is_refused(tls: Tls, start_plugin: StartPlugin) -> None:
    plugin = start_plugin("foreign", "--tcp")
    plugin.behave(Activate={"answer": {"Implements": ["VolumeDriver"]}})
    with pytest.raises(PluginUnreachableError, match=r"cannot connect to https://127\.0\.0\.1"):
        tls.client_of(plugin.where, CAFile=tls.server[0]).volumes(LEISURELY)


@pytest.mark.parametrize("key", ["CAFile", "CertFile"])
def test_file_that_is_not_there_is_named(tls: Tls, start_plugin: StartPlugin, key: str) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server)
    config = {"CAFile": tls.server[0], "CertFile": tls.client[0], "KeyFile": tls.client[1], key: "/nowhere.pem"}
    with pytest.raises(PluginError, match=r"TLS: /nowhere.pem.*No such file") as caught:
        tls.client_of(plugin.where, **config).volumes(LEISURELY)
    assert not isinstance(caught.value, PluginUnreachableError)


def test_key_with_a_passphrase_is_refused_instead_of_asked_for(tls: Tls, start_plugin: StartPlugin, tmp_path: Path) -> None:
    plugin = start_plugin("foreign", "--tcp", "--tls", *tls.server)
    locked = certificate(tmp_path, "locked", "-passout", "pass:secret")
    with pytest.raises(PluginError, match="passphrase"):
        tls.client_of(plugin.where, CAFile=tls.server[0], CertFile=locked[0], KeyFile=locked[1]).volumes(LEISURELY)
