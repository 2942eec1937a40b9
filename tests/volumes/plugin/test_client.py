"""The calls, as they travel, and what becomes of them when the other process does not play along."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.volumes.plugin.conftest import IMPATIENT, LEISURELY, FakeClock, ForeignPlugin, StartPlugin
from unionfs.volumes.drivers.plugin.client import PluginClient
from unionfs.volumes.drivers.plugin.discovery import Plugin, PluginDirectories, find_plugin
from unionfs.volumes.drivers.plugin.errors import (
    NoVolumePluginError,
    PluginAnswerError,
    PluginError,
    PluginRefusedError,
    PluginSilentError,
    PluginUnreachableError,
)
from unionfs.volumes.drivers.plugin.timing import SystemClock, Timing

USER = "ab" * 32

CALLS: dict[str, Callable[[PluginClient], object]] = {
    "Create": lambda client: client.create("data", {}, LEISURELY),
    "Remove": lambda client: client.remove("data", LEISURELY),
    "Mount": lambda client: client.mount("data", USER, LEISURELY),
    "Unmount": lambda client: client.unmount("data", USER, LEISURELY),
    "Path": lambda client: client.path("data", LEISURELY),
    "Get": lambda client: client.get("data", LEISURELY),
    "List": lambda client: client.volumes(LEISURELY),
    "Capabilities": lambda client: client.scope(LEISURELY),
}
REPEATABLE = ["Path", "Get", "List", "Capabilities"]
ONCE = ["Create", "Remove", "Mount", "Unmount"]


# -- what travels ---------------------------------------------------------------------------------------------------------


def test_all_calls_reach_the_plugin_and_its_answers_come_back(nas: ForeignPlugin, client: PluginClient) -> None:
    data = str(nas.directory / "data/data")
    client.create("data", {"size": "10G"}, LEISURELY)
    assert client.path("data", LEISURELY) == ""
    assert client.mount("data", USER, LEISURELY) == data
    assert client.path("data", LEISURELY) == data
    found = client.get("data", LEISURELY)
    assert found is not None
    assert (found.name, found.mountpoint) == ("data", data)
    assert found.status == {"options": {"size": "10G"}, "mounts": {USER: 1}}
    assert [volume.name for volume in client.volumes(LEISURELY)] == ["data"]
    assert client.scope(LEISURELY) == "global"


def test_requests_look_as_dockers(nas: ForeignPlugin, client: PluginClient) -> None:
    for call in CALLS.values():
        try:
            call(client)
        except PluginRefusedError:
            continue  # there is no such volume any more
    assert {request["line"] for request in nas.requests} >= {
        "POST /Plugin.Activate HTTP/1.1\r\n",
        "POST /VolumeDriver.Create HTTP/1.1\r\n",
    }
    for request in nas.requests:
        headers = request["headers"]
        assert headers["Accept"] == "application/vnd.docker.plugins.v1.2+json"
        assert headers["Host"] == "plugin.moby.localhost"
        assert headers["Content-Length"] == str(len(request["body"]))
        assert "Content-Type" not in headers
        assert "Transfer-Encoding" not in headers
    assert nas.bodies("Activate") == [""]
    assert nas.bodies("List") == nas.bodies("Capabilities") == ["{}\n"]
    assert nas.bodies("Create") == ['{"Name": "data", "Opts": {}}\n']
    assert nas.bodies("Remove") == nas.bodies("Get") == nas.bodies("Path") == ['{"Name": "data"}\n']
    assert nas.bodies("Mount") == nas.bodies("Unmount") == [json.dumps({"Name": "data", "ID": USER}) + "\n"]


def test_plugin_on_a_tcp_port_is_reached(start_plugin: StartPlugin, directories: PluginDirectories) -> None:
    plugin = start_plugin("tcp", "--tcp")
    (directories.files[1] / "nas.json").write_text(json.dumps({"Name": "nas", "Addr": f"tcp://127.0.0.1:{plugin.where}"}))
    client = PluginClient("nas", lambda: find_plugin("nas", directories))
    assert client.volumes(LEISURELY) == []
    assert plugin.requests[0]["headers"]["Host"] == f"127.0.0.1:{plugin.where}"


def test_plugin_for_something_else_is_refused(nas: ForeignPlugin, client: PluginClient) -> None:
    nas.behave(Activate={"answer": {"Implements": ["NetworkDriver", "IpamDriver"]}})
    with pytest.raises(NoVolumePluginError, match="it is for NetworkDriver, IpamDriver, not a VolumeDriver"):
        client.volumes(LEISURELY)
    assert nas.calls == ["Activate"]


@pytest.mark.parametrize("how", [{"status": 404, "body": "404 page not found"}, {"answer": {"Err": "unknown"}}])
def test_plugin_without_capabilities_is_local(nas: ForeignPlugin, client: PluginClient, how: dict[str, Any]) -> None:
    nas.behave(Capabilities=how)
    assert client.scope(LEISURELY) == "local"


# -- a plugin that is down ------------------------------------------------------------------------------------------------


def test_plugin_that_is_down_is_tried_again_as_docker_does(nas: ForeignPlugin, client: PluginClient, clock: FakeClock) -> None:
    nas.kill()
    with pytest.raises(PluginUnreachableError, match="Connection refused") as caught:
        client.create("data", {}, LEISURELY)
    assert clock.pauses == [1, 2, 4, 8]
    assert caught.value.thing == "volume plugin nas"
    assert nas.where in caught.value.problem
    assert "start the plugin" in str(caught.value)


@pytest.mark.parametrize("call", CALLS)
def test_plugin_that_comes_up_meanwhile_gets_every_call_once(
    nas: ForeignPlugin, client: PluginClient, clock: FakeClock, call: str
) -> None:
    client.create("data", {}, LEISURELY)
    client.mount("data", USER, LEISURELY)
    if call in ("Create", "Remove"):
        client.unmount("data", USER, LEISURELY)
    if call == "Create":
        client.remove("data", LEISURELY)
    nas.kill()
    before = len(nas.requests)
    clock.while_asleep = lambda: nas.start() if len(clock.pauses) == 2 else None
    CALLS[call](client)
    assert nas.calls[before:] == [call]


def test_plugin_that_is_started_elsewhere_is_found_there(
    nas: ForeignPlugin, client: PluginClient, clock: FakeClock, start_plugin: StartPlugin, directories: PluginDirectories
) -> None:
    nas.kill()

    def move() -> None:
        if len(clock.pauses) == 1:
            (directories.files[0] / "nas.spec").unlink()
        elif len(clock.pauses) == 2:
            (directories.files[1] / "nas.spec").write_text(f"unix://{start_plugin('elsewhere').where}")

    clock.while_asleep = move
    assert client.volumes(LEISURELY) == []
    assert len(clock.pauses) == 2


def test_plugin_that_is_nowhere_is_tried_again_too(clock: FakeClock) -> None:
    client = PluginClient("nas", lambda: None, clock)
    with pytest.raises(PluginUnreachableError, match="there is no plugin of that name"):
        client.volumes(LEISURELY)
    assert clock.pauses == [1, 2, 4, 8]


def test_socket_whose_path_is_too_long_is_not_tried_again(directories: PluginDirectories, clock: FakeClock) -> None:
    plugin = Plugin("nas", directories.files[0] / "nas.spec", path="/" + "x" * 200)
    with pytest.raises(PluginUnreachableError, match="path too long"):
        PluginClient("nas", lambda: plugin, clock).volumes(LEISURELY)
    assert clock.pauses == []


def test_no_attempt_begins_after_the_time_for_all(nas: ForeignPlugin, client: PluginClient, clock: FakeClock) -> None:
    nas.kill()
    with pytest.raises(PluginUnreachableError):
        client.volumes(Timing(trying=4.0))
    assert clock.pauses == [1, 2]
    with pytest.raises(PluginUnreachableError):
        client.volumes(Timing(trying=0.0))
    assert clock.pauses == [1, 2]


# -- a plugin that dies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", REPEATABLE)
def test_lost_answer_is_asked_for_again_where_nothing_changes(
    nas: ForeignPlugin, client: PluginClient, clock: FakeClock, call: str
) -> None:
    client.create("data", {}, LEISURELY)
    nas.behave(**{call: {"close": True, "times": 2}})
    CALLS[call](client)
    assert nas.calls == ["Activate", "Create", call, call, call]
    assert clock.pauses == [1, 2]


@pytest.mark.parametrize("call", ONCE)
def test_lost_answer_is_not_asked_for_again_where_it_would_be_done_twice(
    nas: ForeignPlugin, client: PluginClient, clock: FakeClock, call: str
) -> None:
    nas.behave(**{call: {"close": True}})
    with pytest.raises(PluginSilentError, match=f"connection was lost during VolumeDriver.{call}"):
        CALLS[call](client)
    assert nas.calls == ["Activate", call]
    assert clock.pauses == []


def test_plugin_that_dies_of_a_call_is_named(nas: ForeignPlugin, client: PluginClient) -> None:
    nas.behave(Create={"die": True})
    with pytest.raises(PluginSilentError, match=r"volume plugin nas: the connection was lost during VolumeDriver\.Create"):
        client.create("data", {}, LEISURELY)
    nas.wait()


def test_activation_is_repeated_when_the_plugin_dies_of_it(nas: ForeignPlugin, client: PluginClient, clock: FakeClock) -> None:
    nas.behave(Activate={"die": True})

    def restart() -> None:
        nas.wait()
        nas.behave()
        nas.start()

    clock.while_asleep = restart
    assert client.volumes(LEISURELY) == []
    assert nas.calls == ["Activate", "Activate", "List"]


# -- a plugin that is slow ------------------------------------------------------------------------------------------------

HANGING = {
    "nothing at all": {"hang": True},
    "half a status line": {"drip": "HTTP/1.1 200"},
    "headers without end": {"drip": "HTTP/1.1 200 OK\r\nX: "},
    "a body without end": {"drip": "HTTP/1.1 200 OK\r\n\r\n{"},
    "a body that stops early": {"drip": "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{"},
    "chunks without end": {"drip": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"},
    "no more than 100 Continue": {"drip": "HTTP/1.1 100 Continue\r\n\r\n"},
}


@pytest.mark.parametrize("how", HANGING.values(), ids=HANGING)
def test_answer_that_never_ends_is_given_up(nas: ForeignPlugin, directories: PluginDirectories, how: dict[str, Any]) -> None:
    client = PluginClient("nas", lambda: find_plugin("nas", directories), SystemClock())
    client.scope(LEISURELY)
    nas.behave(Mount=how, List=how)
    with pytest.raises(PluginSilentError, match=r"no whole answer to VolumeDriver.Mount within 0.3 s"):
        client.mount("data", USER, IMPATIENT)
    with pytest.raises(PluginSilentError, match=r"no whole answer to VolumeDriver.List within 0.3 s"):
        client.volumes(IMPATIENT)


def test_limit_of_time_is_for_the_whole_answer_of_one_attempt(nas: ForeignPlugin, client: PluginClient, clock: FakeClock) -> None:
    client.scope(LEISURELY)
    nas.behave(List={"hang": True, "times": 2})
    assert client.volumes(Timing(connecting=30.0, answering=1.0)) == []
    assert clock.pauses == [1, 2]


def test_nothing_stays_open(nas: ForeignPlugin, client: PluginClient) -> None:
    client.scope(LEISURELY)
    before = set(os.listdir("/proc/self/fd"))
    nas.behave(List={"hang": True}, Path={"raw": "nonsense"}, Get={"close": True})
    with pytest.raises(PluginSilentError):
        client.volumes(IMPATIENT)
    with pytest.raises(PluginError):
        client.path("data", LEISURELY)
    with pytest.raises(PluginError):
        client.get("data", IMPATIENT)
    client.scope(LEISURELY)
    assert set(os.listdir("/proc/self/fd")) == before


# -- a plugin that lies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 abc OK\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 1000 + "\r\n{}",
        "HTTP/1.1 200 OK\r\nX: " + "y" * 100_000 + "\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n\r\n\xff\xfe",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n{}",
        "\x00" * 100,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{",
    ],
)
def test_answer_that_is_no_http_or_no_json_is_an_error(nas: ForeignPlugin, client: PluginClient, raw: str) -> None:
    nas.behave(Mount={"raw": raw})
    with pytest.raises((PluginAnswerError, PluginRefusedError), match=r"volume plugin nas: VolumeDriver\.Mount"):
        client.mount("data", USER, LEISURELY)


@pytest.mark.parametrize(
    "raw",
    [
        'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"Mountpoint": "/"}',
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n{"Mountpoint": "/"}',
    ],
)
def test_answer_that_is_cut_off_is_none_even_if_it_reads_well(nas: ForeignPlugin, client: PluginClient, raw: str) -> None:
    nas.behave(Mount={"raw": raw})
    with pytest.raises(PluginSilentError, match=r"connection was lost during VolumeDriver\.Mount"):
        client.mount("data", USER, LEISURELY)


def test_answers_of_all_framings_are_read(nas: ForeignPlugin, client: PluginClient) -> None:
    for raw in (
        'HTTP/1.1 200 OK\r\n\r\n{"Mountpoint": "/"}',
        'HTTP/1.0 200 OK\r\nContent-Length: 19\r\n\r\n{"Mountpoint": "/"}',
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n{"Mountpoint": "/"}\r\n0\r\n\r\n',
    ):
        nas.behave(Mount={"raw": raw})
        assert client.mount("data", USER, LEISURELY) == "/"


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
    ],
)
def test_answer_without_limit_is_refused(nas: ForeignPlugin, client: PluginClient, head: str) -> None:
    nas.behave(List={"flood": head})
    with pytest.raises(PluginAnswerError, match="an answer of more than 16 MiB"):
        client.volumes(LEISURELY)
    assert client.scope(LEISURELY) == "global"


@pytest.mark.parametrize("patch", ["", "\r\n", "-", "\0\xff"])
def test_mangled_answers_are_errors_or_answers(nas: ForeignPlugin, client: PluginClient, patch: str) -> None:
    good = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n{"Mountpoint": "/"}\r\n0\r\n\r\n'
    for start in range(len(good)):
        nas.behave(Mount={"raw": good[:start] + patch + good[start + 1 :]})
        with contextlib.suppress(PluginError):
            assert os.path.isabs(client.mount("data", USER, LEISURELY) or "/")
    nas.behave()
    client.create("data", {}, LEISURELY)
    assert client.mount("data", USER, LEISURELY) == str(nas.directory / "data/data")
