"""Which serializer runs where, the way through a proxy, and messages that a bot paces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from engine.sdk.events import Waiters
from engine.sdk.outgoing import Outgoing
from engine.sdk.websocket import MAX_RAW_BYTES, WebsocketSession, proxy_for, wire_of
from ipc.errors import ConfigError, SessionClosed
from ipc.media_stream import LASTING, PAUSE, TEXT, Kind, StreamFrame, unpack
from ipc.serializers import FrameSerializer, ProtobufFrameSerializer, RawPcmFrameSerializer
from tests.support import until
from tests.unit.engine.sdk.test_session import FakeLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.media_stream import StreamLink


class OwnProtobuf(ProtobufFrameSerializer):
    """Not exactly what a worker knows."""


def test_exactly_our_types_run_in_the_worker() -> None:
    assert wire_of(ProtobufFrameSerializer()) == ("protobuf", {})
    raw = RawPcmFrameSerializer(hz=8_000, channels=2)
    assert wire_of(raw) == ("raw_pcm", {"hz": 8_000, "channels": 2})
    assert wire_of("raw_pcm") == ("raw_pcm", {})
    for other in (OwnProtobuf(), FrameSerializer(), object(), None):
        assert wire_of(other) == ("messages", {})
    with pytest.raises(ConfigError):
        wire_of("twilio")


def test_pipecats_own_serializer_is_known_without_being_loaded() -> None:
    theirs = type("ProtobufFrameSerializer", (), {"__module__": "pipecat.serializers.protobuf"})
    assert wire_of(theirs()) == ("protobuf", {})
    near = type("ProtobufFrameSerializer", (), {"__module__": "somewhere"})
    assert wire_of(near()) == ("messages", {})


def test_the_proxy_is_the_given_one_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("ws://host/", True) is None
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", "near.example")
    assert proxy_for("wss://host/", True) == "http://proxy:1"
    assert proxy_for("wss://near.example/", True) is None
    assert proxy_for("wss://host/", None) is None
    assert proxy_for("wss://host/", False) is None
    assert proxy_for("wss://host/", "http://mine:2") == "http://mine:2"


class FakeStreamLink:
    """What an `Outgoing` says to its worker."""

    def __init__(self) -> None:
        self.frames: list[StreamFrame] = []
        self.reads = True
        self.tell: Callable[[StreamFrame], None] = lambda _frame: None
        self.detached = False

    def watch_messages(self, _number: int, on_frame: Callable[[StreamFrame], None]) -> None:
        self.tell = on_frame

    def detach(self, _number: int) -> None:
        self.detached = True

    def send(self, frame: bytes) -> bool:
        if not self.reads:
            return False
        found = unpack(frame)
        assert found is not None
        self.frames.append(found)
        return True

    def say(self, kind: Kind, *, cursor: int = 0, arg: int = 0) -> None:
        self.tell(StreamFrame(kind, 1, cursor, 0, arg, memoryview(b"")))

    def messages(self) -> list[StreamFrame]:
        return [frame for frame in self.frames if frame.kind == Kind.MESSAGE]


def outgoing() -> tuple[Outgoing, FakeStreamLink]:
    link = FakeStreamLink()
    return Outgoing(cast("StreamLink", link), 1, "token", Waiters(), lambda _data: None), link


async def test_messages_go_with_their_place_and_duration() -> None:
    out, link = outgoing()
    assert bytes(link.frames[0].payload) == b"token"
    assert await out.play("text", 40) == 40_000
    assert await out.play(b"bytes", 60, interruptible=False) == 100_000
    assert [(f.cursor, f.arg, f.flags, bytes(f.payload)) for f in link.messages()] == [
        (0, 40_000, TEXT, b"text"),
        (40_000, 60_000, LASTING, b"bytes"),
    ]
    assert out.queued_ms == 100


async def test_a_second_may_be_queued_and_the_next_waits() -> None:
    out, link = outgoing()
    for _ in range(25):
        await out.play(b"x", 40)
    late = asyncio.create_task(out.play(b"late", 40))
    await until(lambda: out._sending.locked())
    assert len(link.messages()) == 25
    link.say(Kind.ANCHOR, cursor=40_000)
    assert await late == 26 * 40_000
    assert len(link.messages()) == 26


async def test_waits_end_as_played_or_cut() -> None:
    out, link = outgoing()
    first = await out.play(b"1", 40)
    second = await out.play(b"2", 40)
    lasting = await out.play(b"3", 40, interruptible=False)
    waits = [asyncio.create_task(out.wait(cursor)) for cursor in (first, second, lasting)]
    link.say(Kind.ANCHOR, cursor=first)
    out.flush()
    assert link.frames[-1].kind == Kind.FLUSH
    link.say(Kind.FLUSHED, cursor=first, arg=lasting)
    assert [await wait for wait in waits[:2]] == [True, False]
    assert not waits[2].done()
    link.say(Kind.ANCHOR, cursor=lasting)
    assert await waits[2]
    assert out.position == lasting


async def test_whoever_puts_a_message_or_a_pause_hears_what_becomes_of_it() -> None:
    out, link = outgoing()
    first = await out.put(b"1", 40)
    pause = await out.put(None, 900)
    late = asyncio.create_task(out.put(b"late", 100))
    await until(lambda: out._sending.locked())
    assert [(f.arg, f.flags, bytes(f.payload)) for f in link.messages()] == [
        (40_000, 0, b"1"),
        (900_000, PAUSE, b""),
    ]
    link.say(Kind.ANCHOR, cursor=40_000)
    assert await first
    out.flush()
    link.say(Kind.FLUSHED, cursor=40_000, arg=940_000)
    assert not await pause
    assert not await (await late)


async def test_what_waits_for_room_is_dropped_by_a_flush() -> None:
    out, link = outgoing()
    await out.play(b"x", 1_000)
    waiting = asyncio.create_task(out.play(b"never", 40))
    await until(lambda: out._sending.locked())
    out.flush()
    assert await waiting == 1_000_000
    assert len(link.messages()) == 1


async def test_a_worker_that_does_not_read_for_a_while_loses_nothing() -> None:
    out, link = outgoing()
    link.reads = False
    await out.play(b"x", 40)
    out.flush()
    link.reads = True
    await until(lambda: len(link.frames) == 3)
    assert [frame.kind for frame in link.frames] == [Kind.EPOCH, Kind.MESSAGE, Kind.FLUSH]


async def test_raw_messages_wait_bounded_by_their_bytes() -> None:
    session = WebsocketSession("s_1", FakeLine(), None)
    for number in range(1000):
        session.raw_arrived(b"%d" % number, 0)
    half = bytes(MAX_RAW_BYTES // 2)
    session.raw_arrived(half, 0)
    assert session.dropped_messages == 0
    session.raw_arrived(half, 0)
    session.ended("test over")
    assert session.dropped_messages == 1000
    assert [message async for message in session.raw_messages()] == [half, half]
    await session.settle(1)


async def test_the_end_ends_every_wait() -> None:
    out, link = outgoing()
    cursor = await out.play(b"x", 1_000)
    wait = asyncio.create_task(out.wait(cursor))
    waiting = asyncio.create_task(out.play(b"never", 40))
    await until(lambda: out._sending.locked())
    out.close("server_left")
    out._waiters.wake()
    assert not await wait
    with pytest.raises(SessionClosed):
        await waiting
    assert link.detached


async def test_what_had_not_left_goes_to_the_worker_that_takes_over() -> None:
    out, _ = outgoing()
    ends = [await out.play(bytes([number]), 40) for number in range(4)]
    lasting = await out.play("lasting", 40, interruptible=False)
    out._passed(ends[0])
    waits = [asyncio.create_task(out.wait(cursor)) for cursor in (ends[1], lasting)]
    await until(lambda: len(asyncio.all_tasks()) >= 3)
    out.flush()
    new = await out.play(b"new", 40)
    other = FakeStreamLink()
    out.move(cast("StreamLink", other), 2, "another")
    assert (other.frames[0].kind, other.frames[0].arg) == (Kind.EPOCH, 160_000)
    assert [(f.cursor, bytes(f.payload)) for f in other.messages()] == [
        (160_000, b"lasting"),
        (200_000, b"new"),
    ]
    assert not await waits[0]
    other.say(Kind.ANCHOR, cursor=new)
    assert await waits[1]
    assert await out.wait(new)
