"""Which plugins there are, and where they listen: files in directories that docker knows (moby, pkg/plugins/discovery.go).

``NAME.sock`` is the plugin's socket, ``NAME.spec`` holds its address, ``NAME.json`` that and its TLS configuration; each may be
in a directory of its own, ``NAME/NAME.sock``.  A socket comes before a file, the first directory before the next, and in one
directory ``.spec`` before ``.json``.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from unionfs.store.errors import StoreError, wrong_usage

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
"""Names of files that lead out of no directory."""

_ADDRESSES = "unix:///PATH, tcp://HOST:PORT or https://HOST:PORT"
_PORTS = {"tcp": 80, "http": 80, "https": 443}
_LARGEST_FILE = 1 << 20

DIRECTORIES_VARIABLE = "UNIONFS_PLUGIN_DIRS"


@dataclass(frozen=True)
class TlsFiles:
    """``TLSConfig`` of a JSON file: paths of PEM files ("" where there is none)."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    skips_verification: bool = False


@dataclass(frozen=True)
class Plugin:
    """Where a plugin listens: at the socket ``path``, or at ``host`` and ``port``, there with TLS unless ``tls`` is None.
    ``source``: the file that says so."""

    name: str
    source: Path
    path: str | None = None
    host: str = ""
    port: int = 0
    tls: TlsFiles | None = None

    @property
    def named_address(self) -> str:
        """Where it listens and what says so, for messages."""
        if self.path is None:
            return f"{'tcp' if self.tls is None else 'https'}://{self.host}:{self.port} (of {self.source})"
        return self.path if self.path == str(self.source) else f"unix://{self.path} (of {self.source})"


@dataclass(frozen=True)
class PluginDirectories:
    """Where to look: for sockets, and for files with addresses, the first directory first."""

    sockets: tuple[Path, ...] = (Path("/run/docker/plugins"),)
    files: tuple[Path, ...] = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))


def plugin_directories(environment: Mapping[str, str] = os.environ) -> PluginDirectories:
    """Docker's directories, or those that ``UNIONFS_PLUGIN_DIRS`` names, with colons between them, for both."""
    named = tuple(Path(each) for each in environment.get(DIRECTORIES_VARIABLE, "").split(":") if each)
    return PluginDirectories(named, named) if named else PluginDirectories()


def find_plugin(name: str, directories: PluginDirectories) -> Plugin | None:
    """The plugin of that name; None: there is none.

    Raises:
        StoreError: the name cannot be one (exit status 2), or the file that should say where the plugin listens does not.
    """
    if not _NAME.fullmatch(name):
        raise wrong_usage(
            name, "not a name of a volume driver", "use letters, digits and _ . -, beginning with a letter or a digit"
        )
    for socket in _candidates(directories.sockets, name, (".sock",)):
        if _is_socket(socket):
            return Plugin(name, socket, path=str(socket))
    for path in _candidates(directories.files, name, (".spec", ".json")):
        text = _text_of(path)
        if text is not None:
            return (
                _from_json(name, path, text)
                if path.suffix == ".json"
                else _at(name, path, text.strip(), TlsFiles("", "", "", True))
            )
    return None


def plugin_names(directories: PluginDirectories) -> list[str]:
    """The names of all plugins, whether they run or not.

    Raises:
        StoreError: a directory cannot be read.
    """
    names = _names_in(directories.sockets, (".sock",), _is_socket) | _names_in(
        directories.files, (".spec", ".json"), os.path.isfile
    )
    return sorted(names)


def _candidates(folders: Sequence[Path], name: str, endings: Sequence[str]) -> list[Path]:
    return [
        path
        for folder in folders
        for ending in endings
        for path in (folder / f"{name}{ending}", folder / name / f"{name}{ending}")
    ]


def _names_in(folders: Sequence[Path], endings: Sequence[str], fits: Callable[[Path], bool]) -> set[str]:
    names = {Path(entry).stem if Path(entry).suffix in endings else entry for folder in folders for entry in _entries(folder)}
    return {name for name in names if _NAME.fullmatch(name) and any(fits(path) for path in _candidates(folders, name, endings))}


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []  # what is in it could not be used either
    except OSError as error:
        raise StoreError(str(folder), f"the directory of volume plugins: {error.strerror}", "get the right to read it") from error


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


# -- files with addresses -------------------------------------------------------------------------------------------------


def _text_of(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_LARGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            str(path), f"the file of a volume plugin cannot be read: {error}", f"it should hold {_ADDRESSES}"
        ) from error


def _at(name: str, source: Path, address: str, tls: TlsFiles) -> Plugin:
    """A plugin at ``address``; ``tls`` matters to https only, as it does to docker."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise _wrong_address(source, address, str(error)) from error
    if parts.scheme == "unix":
        if parts.netloc or not os.path.isabs(parts.path):
            raise _wrong_address(source, address, "the path is not absolute")
        return Plugin(name, source, path=parts.path)
    if parts.scheme not in _PORTS:
        raise _wrong_address(source, address, "no such kind of address")
    if not parts.hostname or not _is_host(parts.hostname):
        raise _wrong_address(source, address, "it names no host")
    if parts.scheme != "https" and (tls.ca or tls.certificate):
        raise _wrong_address(source, address, "there is a TLSConfig, but nothing would be encrypted")
    # Port 0 is none that anybody could connect to, so `or` takes nothing away.
    return Plugin(
        name, source, host=parts.hostname, port=port or _PORTS[parts.scheme], tls=tls if parts.scheme == "https" else None
    )


def _is_host(name: str) -> bool:
    """Whether the resolver may be asked for it: Python raises UnicodeError for what is no name in DNS."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return re.fullmatch("[!-~]+", name) is not None


def _wrong_address(source: Path, address: str, problem: str) -> StoreError:
    return StoreError(str(source), f"not an address of a volume plugin: {address!r}: {problem}", f"write {_ADDRESSES}")


def _from_json(name: str, path: Path, text: str) -> Plugin:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong_file(path, f"not JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("Addr"), str):
        raise _wrong_file(path, "no object with an Addr, a string")
    return _at(name, path, config["Addr"].strip(), _tls_files(path, config.get("TLSConfig")))


def _tls_files(path: Path, config: object) -> TlsFiles:
    if config is None:
        # Where nothing is configured docker leaves https to Go's defaults: the certificates that the system trusts.
        return TlsFiles()
    if not isinstance(config, dict):
        raise _wrong_file(path, "TLSConfig is no object")
    files = {key: config.get(key) or "" for key in ("CAFile", "CertFile", "KeyFile")}
    skips = config.get("InsecureSkipVerify") or False
    if not all(isinstance(value, str) for value in files.values()) or not isinstance(skips, bool):
        raise _wrong_file(path, "TLSConfig: CAFile, CertFile and KeyFile are paths, InsecureSkipVerify is true or false")
    if bool(files["CertFile"]) != bool(files["KeyFile"]):
        raise _wrong_file(path, "TLSConfig: CertFile and KeyFile belong together")
    # Without a CAFile docker verifies nothing (moby, readPluginJSONInfo).
    return TlsFiles(files["CAFile"], files["CertFile"], files["KeyFile"], skips or not files["CAFile"])


def _wrong_file(path: Path, problem: str) -> StoreError:
    expected = '{"Name": "…", "Addr": "https://HOST:PORT", "TLSConfig": {"CAFile": "…", "CertFile": "…", "KeyFile": "…"}}'
    return StoreError(str(path), problem, f"write {expected}")
