"""Plugins are found where docker finds them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.store.errors import StoreError
from unionfs.volumes.drivers.plugin.discovery import (
    Plugin,
    PluginDirectories,
    TlsFiles,
    find_plugin,
    plugin_directories,
    plugin_names,
)


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        yield
        path.unlink()


def found(name: str, directories: PluginDirectories) -> Plugin:
    plugin = find_plugin(name, directories)
    assert plugin is not None
    return plugin


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_directories_are_dockers_unless_others_are_named() -> None:
    assert plugin_directories({}) == PluginDirectories(
        (Path("/run/docker/plugins"),), (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
    )
    assert plugin_directories({"UNIONFS_PLUGIN_DIRS": "/a:/b"}) == PluginDirectories(
        (Path("/a"), Path("/b")), (Path("/a"), Path("/b"))
    )


def test_socket_is_found_with_and_without_a_directory_of_its_own(directories: PluginDirectories) -> None:
    (directories.sockets[0] / "two").mkdir()
    first, second = directories.sockets[0] / "one.sock", directories.sockets[0] / "two/two.sock"
    with listening(first), listening(second):
        assert found("one", directories).path == str(first)
        assert found("two", directories).path == str(second)
        assert plugin_names(directories) == ["one", "two"]


def test_file_that_is_no_socket_is_no_plugin(directories: PluginDirectories) -> None:
    (directories.sockets[0] / "one.sock").touch()
    assert find_plugin("one", directories) is None
    assert plugin_names(directories) == []


def test_order_is_dockers(directories: PluginDirectories) -> None:
    """A socket, then the files: of one directory after the other, .spec before .json, beside before below."""
    etc, lib = directories.files
    in_order = [
        etc / "nas.spec",
        etc / "nas/nas.spec",
        etc / "nas.json",
        etc / "nas/nas.json",
        lib / "nas.spec",
        lib / "nas/nas.json",
    ]
    for path in in_order:
        address = f"unix://{path}.socket"
        write(path, address if path.suffix == ".spec" else {"Name": "other", "Addr": address})
    with listening(directories.sockets[0] / "nas.sock"):
        assert found("nas", directories).source == directories.sockets[0] / "nas.sock"
    for path in in_order:
        assert found("nas", directories) == Plugin("nas", path, path=f"{path}.socket")
        path.unlink()
    assert find_plugin("nas", directories) is None


def test_names_are_those_of_all_files(directories: PluginDirectories) -> None:
    etc, lib = directories.files
    write(etc / "one.spec", "tcp://localhost:1")
    write(etc / "two/two.json", "nonsense, which only somebody who uses it is told")
    write(lib / "one.json", {"Addr": "tcp://localhost:1"})
    write(lib / "three.txt", "")
    write(lib / "-four.spec", "")
    assert plugin_names(directories) == ["one", "two"]


def test_directories_that_are_not_there_hold_no_plugins(tmp_path: Path) -> None:
    directories = PluginDirectories((tmp_path / "no",), (tmp_path / "neither",))
    assert plugin_names(directories) == []
    assert find_plugin("nas", directories) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../nas", "a/b", "/etc/passwd", "a\0b", "a b", "ä", "nas\n"])
def test_name_that_could_lead_out_of_a_directory_is_refused(directories: PluginDirectories, name: str) -> None:
    with pytest.raises(StoreError, match="not a name of a volume driver") as caught:
        find_plugin(name, directories)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("address", "host", "port", "is_encrypted"),
    [
        ("tcp://localhost:8080", "localhost", 8080, False),
        ("tcp://nas", "nas", 80, False),
        ("http://nas:1", "nas", 1, False),
        ("https://nas.example/docker/plugin", "nas.example", 443, True),
        (" https://[::1]:7 \n", "::1", 7, True),
    ],
)
def test_addresses_of_a_network(directories: PluginDirectories, address: str, host: str, port: int, is_encrypted: bool) -> None:
    write(directories.files[0] / "nas.spec", address)
    plugin = found("nas", directories)
    assert (plugin.path, plugin.host, plugin.port) == (None, host, port)
    # An address alone says nothing of certificates; docker verifies none then.
    assert plugin.tls == (TlsFiles(skips_verification=True) if is_encrypted else None)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nas",
        "unix://nas.sock",
        "unix:relative",
        "ftp://nas",
        "tcp://",
        "tcp://nas:port",
        "tcp://nas:99999",
        "\0",
        "tcp://a..b:1",
    ],
)
def test_address_that_is_none_is_refused_with_those_that_are(directories: PluginDirectories, address: str) -> None:
    path = write(directories.files[0] / "nas.spec", address)
    with pytest.raises(StoreError, match=r"not an address of a volume plugin.*write unix:///PATH") as caught:
        find_plugin("nas", directories)
    assert caught.value.thing == str(path)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, TlsFiles()),
        ({}, TlsFiles(skips_verification=True)),
        ({"CAFile": "ca"}, TlsFiles("ca")),
        ({"CAFile": "ca", "InsecureSkipVerify": True}, TlsFiles("ca", skips_verification=True)),
        ({"CAFile": "ca", "CertFile": "c", "KeyFile": "k", "InsecureSkipVerify": False}, TlsFiles("ca", "c", "k")),
        ({"CAFile": "ca", "CertFile": None}, TlsFiles("ca")),
    ],
)
def test_json_has_a_tls_configuration_with_dockers_meaning(
    directories: PluginDirectories, config: object, expected: TlsFiles
) -> None:
    write(directories.files[0] / "nas.json", {"Name": "nas", "Addr": "https://nas", "TLSConfig": config})
    assert found("nas", directories).tls == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no object with an Addr"),
        ('{"Name": "nas"}', "no object with an Addr"),
        ('{"Addr": 1}', "no object with an Addr"),
        ('{"Addr": "https://nas", "TLSConfig": []}', "TLSConfig is no object"),
        ('{"Addr": "https://nas", "TLSConfig": {"CAFile": 1}}', "are paths"),
        ('{"Addr": "https://nas", "TLSConfig": {"InsecureSkipVerify": "no"}}', "true or false"),
        ('{"Addr": "https://nas", "TLSConfig": {"CertFile": "c"}}', "belong together"),
        ('{"Addr": "tcp://nas:1", "TLSConfig": {"CAFile": "ca"}}', "nothing would be encrypted"),
    ],
)
def test_json_that_makes_no_sense_is_refused(directories: PluginDirectories, content: str, problem: str) -> None:
    path = write(directories.files[0] / "nas.json", content)
    with pytest.raises(StoreError, match=problem) as caught:
        find_plugin("nas", directories)
    assert caught.value.thing == str(path)


def test_file_that_is_no_text_is_refused(directories: PluginDirectories) -> None:
    (directories.files[0] / "nas.spec").write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match="cannot be read"):
        find_plugin("nas", directories)
