"""A volume plugin as somebody else might have written it, for tests: a program of its own, which imports nothing of ours.

``foreign_plugin.py DIRECTORY [--tcp [--tls CERTIFICATE KEY [CLIENT_CA]]]`` listens on DIRECTORY/plugin.sock or on a port of
127.0.0.1, and prints one line when it does: the path or the port.  In DIRECTORY are besides

``requests``   all that came, one JSON object a line: ``call``, ``headers``, ``body`` (text).
``state``      its volumes, JSON; it stays when the plugin is killed.
``behaviour``  JSON written by the test: call -> how it is answered, instead of as a good plugin would:
               ``{"answer": JSON}``, ``{"status": N, "body": TEXT}``, ``{"raw": TEXT}`` (sent as it is), ``{"hang": true}``,
               ``{"drip": TEXT}`` (and then a byte at a time, without end), ``{"flood": TEXT}`` (and then as fast as it can),
               ``{"close": true}``, ``{"die": true}``; ``"times": N``: only that often; ``"works": true``: it does what was asked
               before that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socketserver
import ssl
import threading
import time
from pathlib import Path
from typing import Any

STEP = 0.01  # seconds between the bytes of a drip

lock = threading.Lock()


class Volumes:
    """What a good plugin does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "state"
        self.volumes: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def save(self) -> None:
        aside = self.file.with_suffix(".new")
        aside.write_text(json.dumps(self.volumes))
        aside.rename(self.file)

    def data(self, name: str) -> Path:
        return self.directory / "data" / name

    def described(self, name: str) -> dict[str, Any]:
        volume = self.volumes[name]
        mountpoint = str(self.data(name)) if volume["mounts"] else ""
        return {
            "Name": name,
            "Mountpoint": mountpoint,
            "Status": {"options": volume["options"], "mounts": volume["mounts"]},
            "CreatedAt": "2024-05-06T07:08:09.123456789Z",
        }

    def handle(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        if call == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        name = body.get("Name")
        if call not in ("VolumeDriver.Create", "VolumeDriver.List", "VolumeDriver.Capabilities") and name not in self.volumes:
            return {"Err": f"no such volume: {name}"}
        answer: dict[str, Any] = getattr(self, call.removeprefix("VolumeDriver.").lower())(body)
        self.save()
        return {"Err": "", **answer}

    def capabilities(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"Capabilities": {"Scope": "global"}}

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["Name"] in self.volumes:
            return {"Err": "exists"}
        self.volumes[body["Name"]] = {"options": body["Opts"], "mounts": {}}
        self.data(body["Name"]).mkdir(parents=True, exist_ok=True)
        return {}

    def remove(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.volumes[body["Name"]]["mounts"]:
            return {"Err": "in use"}
        del self.volumes[body["Name"]]
        return {}

    def mount(self, body: dict[str, Any]) -> dict[str, Any]:
        mounts = self.volumes[body["Name"]]["mounts"]
        mounts[body["ID"]] = mounts.get(body["ID"], 0) + 1
        return {"Mountpoint": str(self.data(body["Name"]))}

    def unmount(self, body: dict[str, Any]) -> dict[str, Any]:
        mounts = self.volumes[body["Name"]]["mounts"]
        if body["ID"] not in mounts:
            return {"Err": "not mounted"}
        mounts[body["ID"]] -= 1
        if not mounts[body["ID"]]:
            del mounts[body["ID"]]
        return {}

    def path(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Mountpoint": self.described(body["Name"])["Mountpoint"]}

    def get(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Volume": self.described(body["Name"])}

    def list(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"Volumes": [self.described(name) for name in self.volumes]}


class Handler(socketserver.StreamRequestHandler):
    """One request, read and answered by hand: http.server would not let us lie."""

    directory: Path
    counts: dict[str, int]

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # whoever asked may have had enough
            self.answer()

    def answer(self) -> None:
        line = self.rfile.readline().decode()
        if not line:
            return
        headers = {}
        while (header := self.rfile.readline().decode().strip()) != "":
            key, _, value = header.partition(":")
            headers[key] = value.strip()
        body = self.rfile.read(int(headers["Content-Length"])).decode()
        call = line.split()[1].removeprefix("/")
        with lock:
            with (self.directory / "requests").open("a") as file:
                file.write(json.dumps({"line": line, "call": call, "headers": headers, "body": body}) + "\n")
            behaviour = self.behaviour(call)
            works = behaviour is None or behaviour.get("works")
            answer = Volumes(self.directory).handle(call, json.loads(body or "{}")) if works else {}
        if behaviour is None:
            self.send(200, json.dumps(answer) + "\n")
        else:
            self.misbehave(behaviour)

    def behaviour(self, call: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] | None = json.loads((self.directory / "behaviour").read_text()).get(call)
        except FileNotFoundError:
            return None
        self.counts[call] = self.counts.get(call, 0) + 1
        return found if found and self.counts[call] <= found.get("times", 1 << 30) else None

    def send(self, status: int, body: str) -> None:
        data = body.encode("utf-8", "surrogateescape")
        # Close, because dockerd (20.10) repeats a call over a connection that was closed on it with an empty body.
        head = f"HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data)

    def misbehave(self, how: dict[str, Any]) -> None:
        if "answer" in how:
            self.send(200, json.dumps(how["answer"]))
        elif "status" in how:
            self.send(how["status"], how["body"])
        elif "raw" in how:
            self.wfile.write(how["raw"].encode("latin-1"))
        elif "drip" in how:
            self.wfile.write(how["drip"].encode())
            while True:
                time.sleep(STEP)
                self.wfile.write(b" ")
        elif "flood" in how:
            self.wfile.write(how["flood"].encode())
            while True:
                self.wfile.write(bytes(1 << 20))
        elif "hang" in how:
            self.rfile.read(1)  # until the other side closes
        elif "die" in how:
            os._exit(1)
        else:
            assert how["close"]


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the request: a handshake that never comes must not stop the others."""
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return  # refused by either side
        super().finish_request(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--tls", nargs="+")
    options = parser.parse_args()
    Handler.directory, Handler.counts = options.directory.resolve(), {}
    server: socketserver.BaseServer
    if options.tcp:
        tcp = TcpServer(("127.0.0.1", 0), Handler)
        if options.tls:
            tcp.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tcp.tls.load_cert_chain(*options.tls[:2])
            for authority in options.tls[2:]:
                tcp.tls.load_verify_locations(authority)
                tcp.tls.verify_mode = ssl.CERT_REQUIRED
        server, where = tcp, str(tcp.server_address[1])
    else:
        where = str(options.directory / "plugin.sock")
        Path(where).unlink(missing_ok=True)
        server = UnixServer(where, Handler)
    print(where, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
