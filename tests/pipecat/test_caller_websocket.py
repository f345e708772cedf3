"""What stands for a caller's socket under Pipecat's own transport, with a session that fails."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from engine.integrations.pipecat import caller_websocket
from engine.integrations.pipecat.caller_websocket import CallerWebsocket
from ipc.errors import BackbeatError
from ipc.frames import OutputAudioRawFrame
from ipc.serializers import ProtobufFrameSerializer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


class Session:
    """A session whose caller is away: its ring is full. What is read from it fails."""

    id = "session"
    speaker_channels = 1
    closed = False

    async def play(self, *_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    async def audio(self) -> AsyncIterator[Any]:
        raise BackbeatError("the ring is gone", code="ring")
        yield

    async def messages(self) -> AsyncIterator[Any]:
        return
        yield


async def connect() -> None:
    pass


def socket() -> CallerWebsocket:
    return CallerWebsocket(cast("Any", SimpleNamespace(session=Session(), connect=connect)))


async def test_audio_for_a_caller_who_is_away_gives_up_before_pipecat_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert caller_websocket.ROOM_S < 10
    monkeypatch.setattr(caller_websocket, "ROOM_S", 0.01)
    message = ProtobufFrameSerializer().encode(OutputAudioRawFrame(bytes(640), 16_000, 1))
    assert isinstance(message, bytes)
    async with asyncio.timeout(30):
        await socket().send_bytes(message)


async def test_a_caller_who_can_be_heard_no_more_has_left() -> None:
    async with asyncio.timeout(30):
        assert await socket().receive() == {"type": "websocket.disconnect", "code": 1000}
