"""Pipelines for callers over WebSocket, on our transport and on Pipecat's over our stand-in."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    ClientConnectedFrame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    TTSStoppedFrame,
)
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketTransport as Stock

from engine.integrations.pipecat import (
    FastAPIWebsocketParams,
    FastAPIWebsocketTransport,
    caller_websocket,
)
from engine.transports.runner import as_bot
from tests.fakes.bot import serving
from tests.fakes.websocket_caller import WebsocketCaller
from tests.pipecat.site import OUT_HZ, Running, said
from tests.support import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.serve import ServeProcess

KINDS = pytest.mark.parametrize("kind", [FastAPIWebsocketTransport, Stock], ids=["ours", "stock"])
EVENTS = ("on_client_connected", "on_client_disconnected", "on_session_timeout")


@asynccontextmanager
async def called(
    serve: ServeProcess, kind: Any, *, echoes: bool = False, **options: Any
) -> AsyncIterator[tuple[WebsocketCaller, Running]]:
    """A caller, and the pipeline that serves it."""
    given = {"audio_in_enabled": True, "audio_out_enabled": True, "audio_out_end_silence_secs": 0}
    calls: list[Running] = []

    async def bot(runner_args: Any) -> None:
        params = FastAPIWebsocketParams(
            serializer=ProtobufFrameSerializer(), **{**given, **options}
        )
        call = Running(kind(runner_args.websocket, params), echoes=echoes, events=EVENTS)
        calls.append(call)
        await call.running

    async with serving(as_bot(bot), serve.endpoint):
        async with await WebsocketCaller.through(serve.url) as caller:
            await until(lambda: calls and calls[0].events())
            yield caller, calls[0]
        await until(lambda: len(calls[0].events()) > 1 or calls[0].running.done())
        await calls[0].end()


@KINDS
async def test_both_hear_each_other_and_the_end_is_told(serve: ServeProcess, kind: Any) -> None:
    async with called(serve, kind, echoes=True) as (caller, call):
        caller.speak(440)
        await caller.hears_tone(440)
        rates = {frame.sample_rate for frame in call.before.of(InputAudioRawFrame)}
        assert rates == {16_000}
        assert caller.rates() == {(OUT_HZ, 1)}
        assert call.before.of(ClientConnectedFrame)
    assert call.events() == ["on_client_connected", "on_client_disconnected"]


@KINDS
async def test_messages_interruptions_and_the_last_word(
    serve: ServeProcess, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is still to be heard has time to leave, however long its worker stands still.
    monkeypatch.setattr(caller_websocket, "PLAYED_S", DEADLINE_S)
    async with called(serve, kind, ws_close_timeout=DEADLINE_S) as (caller, call):
        await caller.say({"type": "greeting"})
        await until(lambda: call.before.of(InputTransportMessageFrame))
        assert call.before.of(InputTransportMessageFrame)[0].message == {"type": "greeting"}
        await call.say(said(600, 20.0))
        await caller.hears_tone(600)
        await call.interrupt()
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        message: Any = {"type": "cut"}
        await call.say(OutputTransportMessageUrgentFrame(message=message))
        await until(lambda: message in caller.messages)
        before = len(caller.heard())
        await call.say(said(900, 1.0), TTSStoppedFrame())
        await call.say(said(700, 0.6, OutputAudioRawFrame))
        await call.stop()
        await until(call.running.done)
        assert (await caller.close_code())[0] == 1000
        assert (len(caller.heard()) - before) / 2 / OUT_HZ == pytest.approx(1.6, abs=0.13)
    assert before / 2 / OUT_HZ < 15


async def test_a_session_has_so_much_time(serve: ServeProcess) -> None:
    async with called(serve, FastAPIWebsocketTransport, session_timeout=1) as (_, call):
        await until(lambda: "on_session_timeout" in call.events())
