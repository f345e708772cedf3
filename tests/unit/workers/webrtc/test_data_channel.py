"""What of the data channel is for the bot, what for us, and what is dropped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.webrtc.data_channel import (
    MAX_BUFFERED_BYTES,
    MAX_QUEUED,
    MAX_READ_CHARACTERS,
    MAX_TEXT_BYTES,
    DataChannel,
    Unread,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeChannel:
    """The part of aiortc's channel that is used."""

    def __init__(self, state: str = "open") -> None:
        self.readyState = state
        self.bufferedAmount = 0
        self.sent: list[str | bytes] = []
        self.handlers: dict[str, Callable[..., None]] = {}

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self.handlers[event] = handler

    def send(self, message: str | bytes) -> None:
        self.sent.append(message)

    def open(self) -> None:
        self.readyState = "open"
        self.handlers["open"]()

    def receive(self, message: str | bytes) -> None:
        self.handlers["message"](message)


class Setup:
    def __init__(self, state: str = "open") -> None:
        self.messages: list[Any] = []
        self.tracks: list[tuple[int, bool]] = []
        self.data = DataChannel(
            self.messages.append, lambda index, enabled: self.tracks.append((index, enabled))
        )
        self.channel = FakeChannel(state)

    def adopt(self) -> Setup:
        self.data.adopt(self.channel)  # type: ignore[arg-type]  # a fake
        return self


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("[1, null]", [1, None]),
        ("5", 5),
        ("null", None),
        ("words", "words"),
        ("{broken", "{broken"),
        ("", ""),
        ('"ping"', "ping"),
        (b"\x00\xff", b"\x00\xff"),
        (b"ping", b"ping"),
        ('{"type": "other", "message": 1}', {"type": "other", "message": 1}),
    ],
)
def test_messages_are_json_where_they_can_be(wire: str | bytes, value: object) -> None:
    setup = Setup().adopt()
    setup.channel.receive(wire)
    assert setup.messages == [value]


@pytest.mark.parametrize("head", ["", '{"type": "signalling", "message": 1, "more": '])
def test_a_long_text_is_left_to_be_read_elsewhere(head: str) -> None:
    setup = Setup().adopt()
    long = (head + "[]," * MAX_READ_CHARACTERS)[: MAX_READ_CHARACTERS + 1]
    setup.channel.receive(long)
    setup.channel.receive("[1]".ljust(MAX_READ_CHARACTERS))
    assert setup.messages == [long, [1]]
    assert isinstance(setup.messages[0], Unread)


@pytest.mark.parametrize("wire", ["ping", "ping: 123", "pingpong"])
def test_pings_are_counted_and_not_told(wire: str) -> None:
    setup = Setup().adopt()
    setup.channel.receive(wire)
    assert (setup.messages, setup.data.pings) == ([], 1)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_track_status_is_an_event(index: int) -> None:
    setup = Setup().adopt()
    status = {"type": "trackStatus", "receiver_index": index, "enabled": False}
    setup.channel.receive(json.dumps({"type": "signalling", "message": status}))
    assert (setup.tracks, setup.messages) == ([(index, False)], [])


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        [],
        {},
        {"type": "unknown"},
        {"type": "trackStatus"},
        {"type": "trackStatus", "receiver_index": 3, "enabled": True},
        {"type": "trackStatus", "receiver_index": -1, "enabled": True},
        {"type": "trackStatus", "receiver_index": "0", "enabled": True},
        {"type": "trackStatus", "receiver_index": 0, "enabled": 1},
    ],
)
def test_other_signalling_is_counted_and_not_told(message: object) -> None:
    setup = Setup().adopt()
    setup.channel.receive(json.dumps({"type": "signalling", "message": message}))
    assert (setup.tracks, setup.messages, setup.data.malformed) == ([], [], 1)


def test_text_over_the_limit_is_dropped_and_counted() -> None:
    setup = Setup().adopt()
    setup.channel.receive("x" * MAX_TEXT_BYTES)
    setup.channel.receive("x" * (MAX_TEXT_BYTES + 1))
    assert (len(setup.messages), setup.data.malformed) == (1, 1)


@pytest.mark.parametrize("wire", ["[" * 100_000, "1" * 100_000, '{"a":' * 50_000])
def test_json_that_breaks_the_parser_is_text(wire: str) -> None:
    setup = Setup().adopt()
    setup.channel.receive(wire)
    assert setup.messages == [wire]


@given(st.text(max_size=200))
def test_any_text_is_a_message_a_ping_or_counted(wire: str) -> None:
    setup = Setup().adopt()
    setup.channel.receive(wire)
    data = setup.data
    assert len(setup.messages) + len(setup.tracks) + data.pings + data.malformed == 1


def test_messages_wait_for_the_channel_in_order_and_the_oldest_are_dropped() -> None:
    setup = Setup("connecting")
    for number in range(MAX_QUEUED + 10):
        setup.data.send(number)
    setup.adopt()
    assert setup.channel.sent == []
    setup.channel.open()
    assert setup.channel.sent == [str(number) for number in range(10, MAX_QUEUED + 10)]
    assert setup.data.dropped == 10
    setup.data.send({"b": 2})
    assert setup.channel.sent[-1] == '{"b": 2}'


def test_bytes_leave_as_bytes() -> None:
    setup = Setup().adopt()
    setup.data.send(b"\x00")
    assert setup.channel.sent == [b"\x00"]


def test_a_caller_who_does_not_read_loses_messages_and_no_memory() -> None:
    setup = Setup().adopt()
    setup.channel.bufferedAmount = MAX_BUFFERED_BYTES + 1
    setup.data.send("lost")
    assert (setup.channel.sent, setup.data.dropped) == ([], 1)
    setup.channel.bufferedAmount = 0
    setup.data.send("kept")
    assert setup.channel.sent == ['"kept"']


def test_only_the_first_channel_is_used() -> None:
    setup = Setup().adopt()
    other = FakeChannel()
    setup.data.adopt(other)  # type: ignore[arg-type]  # a fake
    setup.data.send(1)
    assert (setup.channel.sent, other.sent, other.handlers) == (["1"], [], {})


def test_a_goodbye_is_what_pipecats_client_understands() -> None:
    setup = Setup().adopt()
    setup.data.say_goodbye()
    assert [json.loads(text) for text in setup.channel.sent] == [
        {"type": "signalling", "message": {"type": "peerLeft"}}
    ]
