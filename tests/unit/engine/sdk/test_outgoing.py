"""Whole messages on their way to a worker that does not always read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from engine.sdk.events import Waiters
from engine.sdk.outgoing import Outgoing
from ipc.media_stream import Kind, unpack
from tests.support import until

if TYPE_CHECKING:
    import pytest

    from ipc.media_stream import StreamLink


class Link:
    """A way to a worker, which reads only while it is `open`."""

    def __init__(self) -> None:
        self.open = True
        self.tries = 0
        self.sent: list[int] = []

    def send(self, frame: bytes) -> bool:
        self.tries += 1
        if self.open:
            told = unpack(frame)
            assert told is not None
            self.sent.append(told.kind)
        return self.open

    def watch_messages(self, *_: Any) -> None:
        pass

    def detach(self, _stream: int) -> None:
        pass


def outgoing(link: Link) -> Outgoing:
    return Outgoing(cast("StreamLink", link), 1, "token", Waiters(), lambda _data: None)


def timers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.TimerHandle]:
    """Every timer that is set from now on."""
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    made: list[asyncio.TimerHandle] = []

    def kept(*args: Any) -> asyncio.TimerHandle:
        made.append(call_later(*args))
        return made[-1]

    monkeypatch.setattr(loop, "call_later", kept)
    return made


async def test_however_much_waits_for_the_worker_one_timer_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link()
    messages = outgoing(link)
    link.open = False
    made = timers(monkeypatch)
    for _ in range(5):
        messages.flush()
    assert len([timer for timer in made if not timer.cancelled()]) == 1
    link.open = True
    await until(lambda: link.sent == [Kind.EPOCH, *[Kind.FLUSH] * 5])
    messages.close("end")


async def test_what_has_ended_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link()
    messages = outgoing(link)
    link.open = False
    made = timers(monkeypatch)
    messages.flush()
    messages.flush()
    messages.close("end")
    assert all(timer.cancelled() for timer in made)
