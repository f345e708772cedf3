"""One stream's fault at the worker's end is that stream's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zmq

from ipc.media_stream import Kind, StreamHost, pack
from ipc.sockets import open_socket
from tests.support import until
from tests.unit.ipc.conftest import TINY, make_ends

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ipc.media_stream import Send, StreamFrame
    from ipc.sockets import Context

ENDPOINT = "inproc://media-faults"


class Broken:
    """A stream of messages that cannot be pumped."""

    def __init__(self) -> None:
        self.pumps = 0

    def attached(self, arg: int) -> None:
        pass

    def take(self, frame: StreamFrame) -> bool:
        return True

    def pump(self, number: int, send: Send) -> None:
        self.pumps += 1
        raise ValueError("spoilt")


@pytest.fixture
async def host(context: Context) -> AsyncIterator[StreamHost]:
    made = StreamHost(context, ENDPOINT)
    yield made
    made.close()


async def test_a_stream_that_fails_ends_and_those_after_it_go_on(
    context: Context, host: StreamHost, caplog: pytest.LogCaptureFixture
) -> None:
    broken, ends = Broken(), make_ends(TINY)
    opened = [host.open_messages(broken), host.open(ends.bot)]
    with open_socket(context, zmq.DEALER, connect=ENDPOINT) as bot:
        for number, token in opened:
            bot.send(pack(Kind.EPOCH, number, payload=token.encode()))
        for number, _ in opened:
            await host.wait_attached(number)
        read = ends.bot.mic_read
        ends.worker.write_mic(memoryview(bytes(2 * 160)))

        for _ in range(3):
            host.pump()

        assert ends.bot.mic_read == read + 160, "the stream behind it was served"
        assert broken.pumps == 1, "it has ended"
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        bot.send(pack(Kind.FLUSH, opened[0][0]))
        await until(lambda: host.refused == {"unknown_stream": 1})


async def test_a_stream_that_fails_between_two_frames_ends_too(
    context: Context, host: StreamHost
) -> None:
    broken = Broken()
    number, token = host.open_messages(broken)
    with open_socket(context, zmq.DEALER, connect=ENDPOINT) as bot:
        bot.send(pack(Kind.EPOCH, number, payload=token.encode()))
        await host.wait_attached(number)

        host.pump_one(number)
        host.pump_one(number)

        assert broken.pumps == 1
