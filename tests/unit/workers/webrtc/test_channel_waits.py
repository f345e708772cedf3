"""What waits for a data channel and how long, what a restart takes over, and the last words."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiortc import rtcsctptransport

from tests.unit.workers.webrtc.test_data_channel import FakeChannel
from workers import worker
from workers.webrtc import data_channel, hooks
from workers.webrtc.data_channel import MAX_QUEUED, MAX_TEXT_BYTES, DataChannel

if TYPE_CHECKING:
    from ipc.clock import ManualClock


class Line:
    """A data channel of ours on the manual clock."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.messages: list[Any] = []
        self.alive = 0
        self.data = self.make()

    def make(self) -> DataChannel:
        return DataChannel(
            self.messages.append, lambda _index, _on: None, clock=self.clock, on_alive=self._alive
        )

    def _alive(self) -> None:
        self.alive += 1

    def adopt(self, state: str = "open") -> FakeChannel:
        channel = FakeChannel(state)
        self.data.adopt(channel)  # type: ignore[arg-type]  # a fake
        return channel


@pytest.fixture
def line(clock: ManualClock) -> Line:
    return Line(clock)


def test_messages_leave_once_and_in_order_when_the_channel_opens(line: Line) -> None:
    line.data.connected()
    for number in range(3):
        line.data.send(number)
    line.clock.advance_ms(9_900)
    channel = line.adopt("connecting")
    line.data.send(3)
    channel.open()
    channel.handlers["open"]()
    assert channel.sent == ["0", "1", "2", "3"]
    assert (line.data.dropped, line.data.sent, line.data.sent_bytes) == (0, 4, 4)


def test_ten_seconds_without_a_channel_drop_what_waits_and_what_follows(line: Line) -> None:
    line.data.send("early")
    line.clock.advance_ms(60_000)
    line.data.connected()
    line.clock.advance_ms(9_999)
    line.data.send("in time")
    assert line.data.dropped == 0, "who is not connected yet is given time"
    line.clock.advance_ms(1)
    line.data.send("late")
    assert line.data.dropped == 3
    channel = line.adopt()
    line.data.send("again")
    assert channel.sent == ['"again"']


def test_a_caller_who_is_lost_finds_everything_when_back(line: Line) -> None:
    line.data.connected()
    channel = line.adopt()
    channel.readyState = "closed"
    channel.handlers["close"]()
    line.data.disconnected()
    line.data.send("meanwhile")
    line.clock.advance_ms(29_000)
    line.data.send("a moment ago")
    old, line.data = line.data, line.make()
    line.data.inherit(old)
    line.data.connected()
    assert line.adopt().sent == ['"meanwhile"', '"a moment ago"']
    assert line.data.dropped == 0


def test_a_caller_who_is_lost_finds_also_what_was_said_before_the_channel_closed(
    line: Line,
) -> None:
    line.data.connected()
    channel = line.adopt()
    line.data.disconnected()
    line.data.send("into the void")
    assert channel.sent == []
    old, line.data = line.data, line.make()
    line.data.inherit(old)
    line.data.connected()
    assert line.adopt().sent == ['"into the void"']


def test_a_channel_that_the_caller_closes_may_be_followed_by_another(line: Line) -> None:
    line.data.connected()
    first = line.adopt()
    line.clock.advance_ms(60_000)
    first.readyState = "closed"
    first.handlers["close"]()
    line.data.send("between")
    second = line.adopt()
    assert (first.sent, second.sent) == ([], ['"between"'])


def test_a_restart_takes_over_what_waits_in_front_and_what_was_counted(line: Line) -> None:
    old = line.data
    channel = line.adopt()
    channel.receive("ping: 1")
    channel.receive('{"type": "x"}')
    old.send("sent")
    channel.readyState = "closed"
    for number in range(MAX_QUEUED):
        old.send(number)
    line.data = line.make()
    line.data.send("new")
    line.data.inherit(old)
    assert line.adopt().sent == [*(str(number) for number in range(1, MAX_QUEUED)), '"new"']
    data = line.data
    assert (data.pings, data.received, data.dropped, data.sent) == (1, 1, 1, 1 + MAX_QUEUED)
    assert data.ping_age_ns == 0


def test_pings_and_messages_are_signs_of_life_and_pings_have_an_age(line: Line) -> None:
    channel = line.adopt()
    assert line.data.ping_age_ns is None
    channel.receive("ping: 123")
    line.clock.advance_ms(1_500)
    channel.receive(b"\x00")
    assert line.data.ping_age_ns == 1_500_000_000
    assert (line.alive, line.data.received, line.messages) == (2, 1, [b"\x00"])


@pytest.mark.parametrize("wire", [b"\x00" * (MAX_TEXT_BYTES + 1), "ä" * (MAX_TEXT_BYTES // 2 + 1)])
def test_what_is_too_big_is_refused_and_counted_by_its_bytes(line: Line, wire: str | bytes) -> None:
    line.adopt().receive(wire)
    assert (line.messages, line.data.malformed, line.data.received) == ([], 1, 0)


def test_a_flag_is_no_index_of_a_track(line: Line) -> None:
    status = {"type": "trackStatus", "receiver_index": True, "enabled": True}
    line.adopt().receive(json.dumps({"type": "signalling", "message": status}))
    assert line.data.malformed == 1


@pytest.mark.parametrize("wrong", [float("nan"), {"x": float("inf")}])
def test_what_json_cannot_say_is_not_sent(line: Line, wrong: object) -> None:
    channel = line.adopt()
    with pytest.raises(ValueError):
        line.data.send(wrong)
    assert channel.sent == []


async def test_a_goodbye_waits_for_its_acknowledgement(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = asyncio.Event()
    looked = asyncio.Event()

    def is_acknowledged(_channel: object) -> bool:
        looked.set()
        return arrived.is_set()

    monkeypatch.setattr(hooks, "is_acknowledged", is_acknowledged)
    line.data.connected()
    line.adopt()
    await line.data.flush()  # nothing was said: there is nothing to wait for
    line.data.say_goodbye()
    waiting = asyncio.create_task(line.data.flush())
    await looked.wait()
    assert not waiting.done()
    arrived.set()
    await waiting


@pytest.mark.parametrize("in_haste", [False, True])
async def test_a_goodbye_to_somebody_slow_has_a_deadline(
    line: Line, monkeypatch: pytest.MonkeyPatch, in_haste: bool
) -> None:
    def is_acknowledged(_channel: object) -> bool:
        line.clock.advance_ms(100)
        return False

    monkeypatch.setattr(hooks, "is_acknowledged", is_acknowledged)
    line.data.connected()
    line.adopt()
    line.data.say_goodbye(in_haste=in_haste)
    before = line.clock.now_ns()
    await line.data.flush()
    patience_s = data_channel.HASTE_S if in_haste else data_channel.FLUSH_S
    assert line.clock.now_ns() - before == patience_s * 1e9


def test_a_worker_that_ends_has_time_for_what_follows_a_goodbye() -> None:
    assert 1.5 * data_channel.HASTE_S < worker.CLOSE_DEADLINE_S


def test_a_goodbye_may_be_lost_once_on_its_way() -> None:
    assert rtcsctptransport.SCTP_RTO_MIN < data_channel.FLUSH_S


async def test_a_goodbye_to_somebody_gone_is_not_waited_for(line: Line) -> None:
    line.adopt()
    line.data.connected()
    line.data.disconnected()
    line.data.say_goodbye()
    await line.data.flush()


async def test_a_goodbye_is_not_waited_for_once_the_caller_is_gone(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def is_acknowledged(_channel: object) -> bool:
        nonlocal looks
        looks += 1
        line.data.disconnected()  # the channel still counts as open
        line.clock.advance_ms(100)
        return False

    monkeypatch.setattr(hooks, "is_acknowledged", is_acknowledged)
    line.data.connected()
    line.adopt()
    line.data.say_goodbye()
    await line.data.flush()
    assert looks == 1
