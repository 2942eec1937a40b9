"""Answers mean what docker takes them for, and nonsense is called so."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.volumes.drivers.plugin.errors import PluginAnswerError, PluginError, PluginRefusedError
from unionfs.volumes.drivers.plugin.protocol import PluginVolume, Reader, encode
from unionfs.volumes.drivers.plugin.transport import Answer

READER = Reader("nas", "VolumeDriver.Call")

READINGS: list[Callable[[Answer], object]] = [
    READER.nothing,
    READER.subsystems,
    READER.mountpoint,
    READER.volumes,
    READER.scope,
    lambda answer: READER.volume(answer, "data"),
]


def ok(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode())


def test_bodies_end_with_a_newline_as_dockers() -> None:
    assert encode({"Name": "data"}) == b'{"Name": "data"}\n'
    assert encode({}) == b"{}\n"
    assert encode(None) == b""


def test_answers_are_read() -> None:
    READER.nothing(ok({}))
    assert READER.subsystems(ok({"Implements": ["VolumeDriver", "NetworkDriver"]})) == ["VolumeDriver", "NetworkDriver"]
    assert READER.mountpoint(ok({"Mountpoint": "/mnt/ä"})) == "/mnt/ä"
    assert READER.scope(ok({"Capabilities": {"Scope": "Global"}})) == "global"
    described = {"Name": "data", "Mountpoint": "/x", "Status": {"a": [1]}, "CreatedAt": "1970-01-01T00:00:02Z"}
    expected = PluginVolume("data", "/x", {"a": [1]}, 2.0)
    assert READER.volume(ok({"Volume": described}), "data") == expected
    assert READER.volumes(ok({"Volumes": [described, {"Name": "other"}]})) == [expected, PluginVolume("other")]


def test_what_is_left_out_or_null_is_empty() -> None:
    for key in ("Implements", "Volumes", "Volume", "Mountpoint", "Capabilities"):
        assert READER.subsystems(ok({key: None, "Err": None})) == []
        assert READER.volumes(ok({key: None})) == []
        assert READER.volume(ok({key: None}), "data") is None
        assert READER.mountpoint(ok({key: None})) == ""
        assert READER.scope(ok({key: None})) == "local"


def test_case_of_keys_does_not_matter() -> None:
    assert READER.mountpoint(ok({"mountpoint": "/x", "err": ""})) == "/x"
    with pytest.raises(PluginRefusedError, match="full"):
        READER.nothing(ok({"err": "full"}))


def test_time_of_the_year_1_is_that_of_go_for_none() -> None:
    volume = READER.volume(ok({"Volume": {"Name": "data", "CreatedAt": "0001-01-01T00:00:00Z"}}), "data")
    assert volume == PluginVolume("data", created=0.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ok({"Err": "disk full"}), "disk full"),
        (Answer(500, b'{"Err": "disk full"}'), "disk full"),
        (Answer(404, b"404 page not found\n"), "404 page not found"),
        (Answer(500, b""), "HTTP status 500"),
        (Answer(500, b"{}"), "{}"),
        (Answer(503, b'"broken"'), '"broken"'),
        (Answer(500, b'{"Err": 5}'), '{"Err": 5}'),
        (Answer(500, b"\xff"), "\ufffd"),
    ],
)
def test_errors_of_the_plugin_are_quoted(answer: Answer, said: str) -> None:
    for read in READINGS:
        with pytest.raises(PluginRefusedError) as caught:
            read(answer)
        assert caught.value.problem == f"VolumeDriver.Call failed: {said}"
        assert caught.value.thing == "volume plugin nas"
        assert caught.value.status == answer.status


@pytest.mark.parametrize(
    "body", [b"", b"\n", b"null", b"[]", b'"x"', b"1", b"{", b'{"Err": 1}', b'{"Err": NaN}', b"{} {}", b"\xff", b"[" * 99_999]
)
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    for read in READINGS:
        with pytest.raises(PluginAnswerError, match="the protocol wants"):
            read(Answer(200, body))


@pytest.mark.parametrize("path", ["data", "./data", "~/x", "/a\0b", "/\ud800", 1, ["/x"]])
def test_mountpoint_that_is_no_absolute_path_is_refused(path: object) -> None:
    with pytest.raises(PluginAnswerError, match='absolute path "Mountpoint"'):
        READER.mountpoint(ok({"Mountpoint": path}))


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ([], 'an object "Volume"'),
        ({}, 'a string "Name"'),
        ({"Name": ""}, 'a string "Name"'),
        ({"Name": 1}, 'a string "Name"'),
        ({"Name": "other"}, "the volume asked for, data"),
        ({"Name": "data", "Status": "good"}, 'an object "Status"'),
        ({"Name": "data", "CreatedAt": "yesterday"}, "RFC 3339"),
        ({"Name": "data", "CreatedAt": "2024-01-01T00:00:00"}, "its zone"),
        ({"Name": "data", "CreatedAt": 5}, 'a string "CreatedAt"'),
        ({"Name": "data", "Mountpoint": "x"}, "absolute path"),
    ],
)
def test_volume_of_the_wrong_shape_is_refused(volume: object, expected: str) -> None:
    with pytest.raises(PluginAnswerError) as caught:
        READER.volume(ok({"Volume": volume}), "data")
    assert expected in str(caught.value)


@pytest.mark.parametrize("volumes", [{}, "x", ["data"], [None], [{"Name": None}]])
def test_list_of_the_wrong_shape_is_refused(volumes: object) -> None:
    with pytest.raises(PluginAnswerError):
        READER.volumes(ok({"Volumes": volumes}))


@pytest.mark.parametrize("scope", ["everywhere", 1, {}])
def test_scope_that_is_none_is_refused(scope: object) -> None:
    with pytest.raises(PluginAnswerError):
        READER.scope(ok({"Capabilities": {"Scope": scope}}))


def test_nothing_of_theirs_reaches_a_terminal_unescaped() -> None:
    with pytest.raises(PluginRefusedError) as caught:
        READER.nothing(ok({"Err": "\x1b[31mred\r\n\ud800\x9b" + "x" * 5000}))
    line = str(caught.value)
    assert "\\x1b[31mred\\x0d\\x0a?\\x9b" in line
    assert len(line) < 1200
    line.encode()


keys = st.sampled_from(
    ["Err", "Volume", "Volumes", "Name", "Mountpoint", "Status", "CreatedAt", "Implements", "Capabilities", "Scope"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("data") | st.just("/x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(), inner, max_size=4),
)


@given(st.sampled_from([200, 204, 404, 500]), st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_understood_or_refused(status: int, body: bytes) -> None:
    for read in READINGS:
        try:
            read(Answer(status, body))
        except PluginError as error:
            str(error).encode()
