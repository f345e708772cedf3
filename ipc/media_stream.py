"""PCM over ZeroMQ, for bots that cannot map shared memory.

The worker keeps the session's rings in private memory and `StreamHost` plays the bot's end of
them; in the bot, `StreamLink` plays the worker's end of a mirror, so that both kinds of bot
use the same rings and the same calls. A frame is one ZeroMQ message: a 32-byte little-endian
header (version u8, kind u8, flags u16, stream u32, cursor u64, ns u64, arg u64) and its
payload. Bounded both ways: toward the bot the mic ring drops its oldest samples, toward the
worker credits stop the writer. A flush follows the samples that it drops on the same socket.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import struct
from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import zmq

from ipc.sockets import Context, SocketReader, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipc.audio_ring import BotRing, MicRead, WorkerRing

log = logging.getLogger(__name__)

VERSION = 1
HEADER = struct.Struct("<BBHIQQQ")
TRIP = struct.Struct("<II")
MOST_US = (1 << 32) - 1
# Flags of a MESSAGE: it is text, a flush does not take it, and it is none: it only takes its time.
TEXT, LASTING, PAUSE = 1, 2, 4
# 1 s of 20 ms frames in the sockets' queues; the rings hold the rest.
QUEUE_FRAMES = 50


class Kind(IntEnum):
    """What a frame is. Arrows: worker to bot `<`, bot to worker `>`.

    PCM: samples from `cursor` on (`<` `ns` of arrival, `arg` samples lost before).
    FLUSH `>`: drop what is not sent, but let `arg` more samples fade out (at most 20 ms of them).
    FLUSHED `<`: done up to `arg`; samples before `cursor` left. ANCHOR `<`: samples before
    `cursor` left at `ns`, `arg` is the RTP timestamp, the payload the round trip and the peer's
    jitter in µs (two u32).
    CREDIT `<`: the bot may write up to `cursor`. END `>`: the utterance ends at `cursor`.
    EPOCH: `>` the first frame, with the token as payload; `<` the answer, `cursor` is the
    first mic sample that comes and `arg` the first speaker sample to write. MESSAGE is a whole
    WebSocket message, `>` at `cursor` with the duration `arg`, both in µs, as are the cursors of
    its stream's other frames (`ipc.message_stream`). MARK is kept.
    """

    PCM = 1
    MESSAGE = 2
    FLUSH = 3
    FLUSHED = 4
    ANCHOR = 5
    CREDIT = 6
    MARK = 7
    END = 8
    EPOCH = 9


class StreamFrame(NamedTuple):
    """One frame, unpacked."""

    kind: int
    stream: int
    cursor: int
    ns: int
    arg: int
    payload: memoryview
    flags: int = 0


def pack(
    kind: Kind,
    stream: int,
    *,
    cursor: int = 0,
    ns: int = 0,
    arg: int = 0,
    flags: int = 0,
    payload: bytes | memoryview = b"",
) -> bytes:
    """A frame as bytes."""
    return b"".join((HEADER.pack(VERSION, kind, flags, stream, cursor, ns, arg), payload))


def unpack(data: bytes) -> StreamFrame | None:
    """A frame from bytes, or None when they are not one of this version."""
    if len(data) < HEADER.size:
        return None
    version, kind, flags, stream, cursor, ns, arg = HEADER.unpack_from(data)
    if version != VERSION:
        return None
    return StreamFrame(kind, stream, cursor, ns, arg, memoryview(data)[HEADER.size :], flags)


class Send(Protocol):
    """The way to the bot of a stream; False when it does not read for the moment."""

    def __call__(self, frame: bytes) -> bool:
        """Send a frame."""
        ...


class MessageEnd(Protocol):
    """The worker's end of a stream of messages (`ipc.message_stream`)."""

    def attached(self, arg: int) -> None:
        """The bot has claimed it; its cursors begin at `arg`."""
        ...

    def take(self, frame: StreamFrame) -> bool:
        """A frame of the bot's; False when it cannot be."""
        ...

    def pump(self, number: int, send: Send) -> None:
        """Send the bot what there is to tell."""
        ...


class _Stream:
    """One session's stream at the worker."""

    def __init__(self, number: int, token: str) -> None:
        self.number = number
        self.token = token
        self.peer = b""
        self.attached = asyncio.Event()


class _Messages(_Stream):
    """A stream of whole messages."""

    def __init__(self, number: int, token: str, end: MessageEnd) -> None:
        super().__init__(number, token)
        self.end = end


class _Samples(_Stream):
    """A stream of PCM over private rings."""

    def __init__(self, number: int, token: str, ring: BotRing) -> None:
        super().__init__(number, token)
        self.ring = ring
        self.unsent: MicRead | None = None
        self.credit = -1
        self.anchored = -1
        self.flush_ack = ring.flushed().flush_to


class StreamHost:
    """The worker's endpoint for all its streams. The worker's tick calls `pump`."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._socket = open_socket(context, zmq.ROUTER, bind=endpoint, queue=QUEUE_FRAMES)
        self._reader = SocketReader(self._socket, self._receive)
        self._streams: dict[int, _Samples | _Messages] = {}
        self._next = 1
        self.refused: Counter[str] = Counter()

    def open(self, ring: BotRing) -> tuple[int, str]:
        """A new stream over the bot's end of private rings: its number and its token."""
        return self._add(_Samples(self._next, secrets.token_hex(16), ring))

    def open_messages(self, end: MessageEnd) -> tuple[int, str]:
        """A new stream of messages: its number and its token."""
        return self._add(_Messages(self._next, secrets.token_hex(16), end))

    def _add(self, stream: _Samples | _Messages) -> tuple[int, str]:
        self._streams[stream.number] = stream
        self._next += 1
        return stream.number, stream.token

    async def wait_attached(self, number: int) -> None:
        """Return when the bot has claimed the stream."""
        await self._streams[number].attached.wait()

    def end(self, number: int) -> None:
        """Forget a stream; frames that still come are refused."""
        self._streams.pop(number, None)

    def pump(self) -> None:
        """Send every attached bot what has arrived and what has left; one that fails ends."""
        for stream in [*self._streams.values()]:
            if not stream.peer:
                continue
            try:
                if isinstance(stream, _Messages):
                    self._pump_messages(stream)
                else:
                    self._pump(stream)
            except Exception:
                self._failed(stream)

    def pump_one(self, number: int) -> None:
        """Send the bot of a stream of messages what has come, now."""
        stream = self._streams.get(number)
        if isinstance(stream, _Messages) and stream.peer:
            try:
                self._pump_messages(stream)
            except Exception:
                self._failed(stream)

    def _pump_messages(self, stream: _Messages) -> None:
        stream.end.pump(stream.number, functools.partial(self._send, stream.peer))

    def _failed(self, stream: _Samples | _Messages) -> None:
        """One stream's fault must not stop those of the others."""
        log.exception("media stream %d failed", stream.number)
        self.end(stream.number)

    def close(self) -> None:
        """Close the endpoint."""
        self._reader.close()
        self._socket.close(0)
        self._streams.clear()

    def _pump(self, stream: _Samples) -> None:
        ring, number = stream.ring, stream.number
        while True:
            read = stream.unsent or ring.read_mic(ring.mic.slack)
            stream.unsent = read
            if read is None:
                break
            ns = ring.capture().ns
            frame = pack(
                Kind.PCM, number, cursor=read.cursor, ns=ns, arg=read.lost, payload=read.pcm
            )
            if not self._send(stream.peer, frame):
                break
            stream.unsent = None
        self._report(stream)

    def _report(self, stream: _Samples) -> None:
        ring, number = stream.ring, stream.number
        for flushed in ring.flushes():
            if flushed.flush_to > stream.flush_ack:
                frame = pack(Kind.FLUSHED, number, cursor=flushed.sent, arg=flushed.flush_to)
                if not self._send(stream.peer, frame):
                    return  # an anchor that overtook it would speak of other samples
                stream.flush_ack = flushed.flush_to
        playback = ring.playback()
        if playback.cursor != stream.anchored:
            frame = pack(
                Kind.ANCHOR,
                number,
                cursor=playback.cursor,
                ns=playback.ns,
                arg=playback.rtp_timestamp,
                # The peer says what they are, and it may say anything.
                payload=TRIP.pack(min(playback.rtt_us, MOST_US), min(playback.jitter_us, MOST_US)),
            )
            if self._send(stream.peer, frame):
                stream.anchored = playback.cursor
        credit = ring.speaker_sent + ring.speaker.capacity
        if credit != stream.credit and self._send(
            stream.peer, pack(Kind.CREDIT, number, cursor=credit)
        ):
            stream.credit = credit

    def _send(self, peer: bytes, frame: bytes) -> bool:
        try:
            self._socket.send_multipart([peer, frame], zmq.NOBLOCK)
        except zmq.ZMQError:  # full, or the bot is gone: its engine channel tells which
            return False
        finally:
            self._reader.look()
        return True

    def _receive(self, frames: list[bytes]) -> None:
        frame = unpack(frames[1]) if len(frames) == 2 else None
        if frame is None:
            self.refused["malformed"] += 1
            return
        stream = self._streams.get(frame.stream)
        if stream is None:
            self.refused["unknown_stream"] += 1
        elif not stream.peer:
            self._attach(stream, frames[0], frame)
        elif stream.peer != frames[0]:
            self.refused["foreign_stream"] += 1
        elif isinstance(stream, _Messages):
            self.refused["malformed"] += not stream.end.take(frame)
        else:
            self._take(stream, frame)

    def _attach(self, stream: _Samples | _Messages, peer: bytes, frame: StreamFrame) -> None:
        token = stream.token.encode()
        if frame.kind != Kind.EPOCH or not secrets.compare_digest(bytes(frame.payload), token):
            self.refused["token"] += 1
            return
        stream.peer = peer
        stream.attached.set()
        if isinstance(stream, _Messages):
            stream.end.attached(frame.arg)
            return
        ring = stream.ring
        self._send(
            peer,
            pack(Kind.EPOCH, stream.number, cursor=ring.mic_read, arg=ring.speaker_written),
        )
        self._report(stream)

    def _take(self, stream: _Samples, frame: StreamFrame) -> None:
        ring = stream.ring
        if frame.kind == Kind.PCM:
            count = len(frame.payload) // ring.speaker.stride
            if frame.cursor != ring.speaker_written or len(frame.payload) % ring.speaker.stride:
                self.refused["cursor"] += 1
            elif ring.write_speaker(frame.payload) < count:
                self.refused["over_credit"] += 1
        elif frame.kind == Kind.FLUSH:
            ring.flush(min(frame.arg, ring.speaker.slack))
        elif frame.kind == Kind.END:
            ring.end()
        elif frame.kind != Kind.EPOCH:
            self.refused["unknown_kind"] += 1


class StreamLink:
    """A bot's connection to one worker's streams."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._socket = open_socket(context, zmq.DEALER, connect=endpoint, queue=4 * QUEUE_FRAMES)
        self._reader = SocketReader(self._socket, self._receive)
        self._streams: dict[int, tuple[WorkerRing, Callable[[], None]]] = {}
        self._message_streams: dict[int, Callable[[StreamFrame], None]] = {}
        self.refused: Counter[str] = Counter()

    def watch(self, number: int, mirror: WorkerRing, on_change: Callable[[], None]) -> None:
        """What the worker sends for a stream moves `mirror` and calls `on_change`."""
        self._streams[number] = (mirror, on_change)

    def watch_messages(self, number: int, on_frame: Callable[[StreamFrame], None]) -> None:
        """What the worker sends for a stream of messages goes to `on_frame`."""
        self._message_streams[number] = on_frame

    def detach(self, number: int) -> None:
        """Forget a stream."""
        self._streams.pop(number, None)
        self._message_streams.pop(number, None)

    @property
    def idle(self) -> bool:
        """Whether no stream uses the link."""
        return not self._streams and not self._message_streams

    def send(self, frame: bytes) -> bool:
        """Send a frame; False when the worker does not read for the moment."""
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        finally:
            self._reader.look()
        return True

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
        self._socket.close(0)
        self._streams.clear()
        self._message_streams.clear()

    def _receive(self, frames: list[bytes]) -> None:
        frame = unpack(frames[0]) if len(frames) == 1 else None
        on_frame = self._message_streams.get(frame.stream) if frame is not None else None
        if frame is not None and on_frame is not None:
            on_frame(frame)
            return
        known = self._streams.get(frame.stream) if frame is not None else None
        if frame is None or known is None:
            self.refused["malformed" if frame is None else "unknown_stream"] += 1
            return
        mirror, on_change = known
        if frame.kind == Kind.PCM:
            if frame.cursor > mirror.mic_written:
                mirror.skip_mic(frame.cursor)
            mirror.write_mic(frame.payload)
            mirror.set_capture(frame.ns, 0)
        elif frame.kind == Kind.ANCHOR:
            trip = TRIP.unpack(frame.payload) if len(frame.payload) == TRIP.size else (0, 0)
            mirror.commit(frame.cursor, frame.ns, frame.arg, *trip)
        elif frame.kind == Kind.CREDIT:
            mirror.open_room(frame.cursor - mirror.speaker.capacity)
        elif frame.kind == Kind.FLUSHED:
            mirror.acknowledge(frame.arg, frame.cursor)
        elif frame.kind != Kind.EPOCH:
            self.refused["unknown_kind"] += 1
            return
        on_change()
