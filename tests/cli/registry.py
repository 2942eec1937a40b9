"""A registry of images, as small as skopeo needs it: what an OCI layout holds, over HTTP (OCI distribution specification)."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, cast

USER, PASSWORD = "somebody", "secret"
_AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Registry(NamedTuple):
    """``host``: HOST:PORT; ``asked``: set when somebody has asked for a blob."""

    host: str
    asked: threading.Event


class _Server(ThreadingHTTPServer):
    def __init__(self, layout: Path, *, with_password: bool, stalls: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.with_password = with_password
        self.asked = threading.Event()
        self.goes_on = threading.Event()
        if not stalls:
            self.goes_on.set()
        self._layout = layout

    def blob(self, name: str) -> tuple[str, bytes] | None:
        """Digest and content of what is called so, by its digest or (the manifest) by a tag."""
        (manifest,) = json.loads((self._layout / "index.json").read_bytes())["manifests"]
        digest = name if name.startswith("sha256:") else manifest["digest"]
        path = self._layout / "blobs/sha256" / digest.removeprefix("sha256:")
        return (digest, path.read_bytes()) if path.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server = cast(_Server, self.server)
        if server.with_password and self.headers.get("Authorization") != _AUTHORIZATION:
            self._answer(401, b"{}", {"WWW-Authenticate": 'Basic realm="test"'})
        elif self.path == "/v2/":
            self._answer(200, b"{}", {})
        else:
            self._send_blob(*self.path.rsplit("/", 2)[1:])

    def _send_blob(self, kind: str, name: str) -> None:
        server = cast(_Server, self.server)
        found = server.blob(name)
        if found is None:
            self._answer(404, b"{}", {})
            return
        if kind == "blobs":
            server.asked.set()
            server.goes_on.wait()
        digest, content = found
        of_manifests = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"} if kind == "manifests" else {}
        self._answer(200, content, {"Docker-Content-Digest": digest, **of_manifests})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def registry(layout: Path, *, with_password: bool = False, stalls: bool = False) -> Iterator[Registry]:
    """Serve the one image of ``layout`` under every name and tag.  ``stalls``: blobs come when the block has ended."""
    server = _Server(layout, with_password=with_password, stalls=stalls)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Registry(f"127.0.0.1:{server.server_port}", server.asked)
    finally:
        server.goes_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
