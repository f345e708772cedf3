"""An echo bot without the SDK: pyzmq and msgpack only, a model for other languages.

usage: python plain_zmq_echo.py ipc:///path/of/the/engine/bots
"""

import struct
import sys
import time
from typing import Any

import msgpack
import zmq

FRAME = struct.Struct("<BBHIQQQ")  # version, kind, flags, stream, cursor, ns, arg; then the payload
PCM, CREDIT, EPOCH = 1, 6, 9
context = zmq.Context()


def pack(kind: int, stream: int, cursor: int = 0, payload: bytes = b"") -> bytes:
    """A media frame."""
    return FRAME.pack(1, kind, 0, stream, cursor, 0, 0) + payload


class Call:
    """One session: its media socket, and where its next speaker sample goes."""

    def __init__(self, offer: dict[str, Any]) -> None:
        self.stream, self.cursor, self.limit = offer["stream"], 0, 0
        self.media = context.socket(zmq.DEALER)
        self.media.connect(offer["endpoint"])
        self.media.send(pack(EPOCH, self.stream, payload=offer["token"].encode()))

    def on_frame(self, data: bytes) -> None:
        """Answer what we hear with the same."""
        _, kind, _, _, cursor, _, arg = FRAME.unpack_from(data)
        if kind == EPOCH:  # attached: `arg` is the first sample that we may write
            self.cursor = arg
        elif kind == CREDIT:  # we may write up to here
            self.limit = cursor
        elif kind == PCM and self.cursor + len(data) // 2 - 16 <= self.limit:
            self.media.send(pack(PCM, self.stream, self.cursor, data[32:]))
            self.cursor += len(data) // 2 - 16


def main() -> None:
    """Serve until interrupted."""
    engine = context.socket(zmq.DEALER)
    engine.connect(sys.argv[1])

    def say(kind: str, **fields: Any) -> None:
        engine.send(msgpack.packb({"v": 1, "t": kind, **fields}))

    say("hello", id=1, name="plain", capacity=10, media="zmq", mic_hz=16000, speaker_hz=16000)
    calls: dict[str, Call] = {}
    beat = 0.0  # when the next one is due
    while True:
        if time.monotonic() > beat:  # or the engine gives our calls to others
            say("beat", id=2, number=0)
            beat = time.monotonic() + 0.25
        by_socket = {call.media: call for call in calls.values()}
        readable, _, _ = zmq.select([engine, *by_socket], [], [], 0.1)
        for socket in readable:
            if socket in by_socket:
                by_socket[socket].on_frame(socket.recv())
                continue
            message = msgpack.unpackb(engine.recv())
            if message["t"] == "offer_session":
                calls[message["session"]] = Call(message)
                say("ok", re=message["id"])
            elif message["t"] == "app_message":
                say("send_message", session=message["session"], data=message["data"])
            elif message["t"] in ("session_closed", "media_moved") and message["session"] in calls:
                calls.pop(message["session"]).media.close(0)
                if message["t"] == "media_moved":  # its worker died: another one offers it again
                    say("open_media", id=3, session=message["session"])


if __name__ == "__main__":
    main()
