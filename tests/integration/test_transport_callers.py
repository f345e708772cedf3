"""Callers of the documented transport come, mute, go, vanish and return; mistakes stay small."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from engine import Engine
from engine.transports.base import TransportParams
from engine.transports.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    UserImageRequestFrame,
)
from engine.transports.processors import (
    FrameProcessorSetup,
    SystemClock,
    TaskManager,
)
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from engine.transports.smallwebrtc.transport import (
    SmallWebRTCCallbacks,
    SmallWebRTCClient,
    SmallWebRTCTransport,
)
from ipc.errors import AlreadyAttached, StateError
from tests.fakes.audio import level_db, tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.transport_site import TransportSite, said, speech
from tests.support import SOON_S, until

pytestmark = pytest.mark.usefixtures("found_serve")

CAME, GONE = "on_client_connected", "on_client_disconnected"


def setup() -> FrameProcessorSetup:
    return FrameProcessorSetup(SystemClock(), TaskManager())


def coming_and_going(site: TransportSite) -> list[str]:
    return [event for event in site.call.events() if event in (CAME, GONE)]


async def test_a_caller_who_hangs_up_is_gone_once() -> None:
    async with TransportSite() as site:
        async with FakeCaller(site.url):
            await until(lambda: coming_and_going(site) == [CAME])
        await until(lambda: GONE in coming_and_going(site))
        call = site.call
        assert not call.transport.input()._client.is_connected
        assert await call.transport.output().write_audio_frame(said(speech(600, 0.04))) is False
        await call.transport.output().send_message(OutputTransportMessageFrame({"late": 1}))
        await call.end()
        assert coming_and_going(site) == [CAME, GONE]


async def test_a_caller_who_vanishes_is_gone_and_may_come_back() -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: coming_and_going(site) == [CAME])
        caller.vanish()
        await until(lambda: coming_and_going(site) == [CAME, GONE], SOON_S)
        # It is said to nobody for now, and held until somebody is there.
        await site.call.say(said(speech(600, 3.0)), TTSStoppedFrame())
        await caller.dial(restart=True)
        await until(lambda: coming_and_going(site) == [CAME, GONE, CAME])
        await caller.hears(600)
        await until(lambda: len(site.call.after.of(TTSAudioRawFrame)) == 75)
        assert len(site.calls) == 1


async def test_a_caller_who_returns_in_time_is_not_greeted_twice() -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: coming_and_going(site) == [CAME])
        call = site.call
        await call.say(said(speech(600, 6.0)), TTSStoppedFrame())
        await caller.hears(600)
        caller.vanish()
        await caller.dial(restart=True)
        caller.forget()
        await caller.hears(600)
        assert coming_and_going(site) == [CAME]
        # Whatever waited while nobody was there has been heard, or is to be.
        await until(lambda: len(call.after.of(TTSAudioRawFrame)) == 150)


async def test_a_pipeline_outlives_the_worker_of_its_call() -> None:
    settings: dict[str, Any] = {"priority": "none", "ice_address": "127.0.0.1"}
    # A core may be taken away for seconds: whoever was on it does not hang.
    engine = Engine(workers=1, spare_workers=1, worker_stall_ms=10_000, **settings)
    async with TransportSite(engine=engine) as site, FakeCaller(site.url) as caller:
        await until(lambda: coming_and_going(site) == [CAME])
        call = site.call
        await call.say(said(speech(600, 6.0)), TTSStoppedFrame())
        await caller.hears(600)
        supervisor = engine.supervisor
        await until(lambda: len(supervisor.workers) > len(supervisor.live) > 0, what="a spare")
        (worker,) = supervisor.live
        assert worker.child is not None
        worker.child.kill()
        await until(lambda: not call.connection.is_connected())
        caller.forget()
        await caller.dial(restart=True)
        await caller.hears(600)
        # Whoever hangs up when a caller goes must not do so for a fault of ours.
        assert coming_and_going(site) == [CAME]
        await until(lambda: len(call.after.of(TTSAudioRawFrame)) == 150)


async def test_a_muted_microphone_is_told_and_is_silence() -> None:
    async with TransportSite() as site, FakeCaller(site.url, tone_source(440)) as caller:
        await until(lambda: site.calls and site.call.before.of(InputAudioRawFrame))
        call = site.call
        told: list[tuple[str, bool]] = []

        async def hear(source: str, enabled: bool) -> None:
            told.append((source, enabled))

        call.transport.input()._client._callbacks.on_track_status = hear
        status = {"type": "trackStatus", "receiver_index": 0, "enabled": False}
        caller.send({"type": "signalling", "message": status})
        caller.say(lambda _start, count: np.zeros(count, np.int16))
        await until(lambda: told == [("microphone", False)])

        def silent() -> bool:
            last = call.before.of(InputAudioRawFrame)[-25:]
            samples = np.frombuffer(b"".join(frame.audio for frame in last), np.int16)
            return level_db(samples) < -50

        await until(silent)


async def test_messages_of_a_bot_that_spoke_first_arrive_in_order() -> None:
    async with TransportSite() as site:
        caller = FakeCaller(site.url)
        try:
            await caller.dial()
            await until(lambda: site.calls)
            messages = [OutputTransportMessageUrgentFrame({"n": number}) for number in range(10)]
            await site.call.say(*messages)
            await caller.until(lambda: len(caller.messages) >= 10, "ten messages")
            assert [message["n"] for message in caller.messages[:10]] == list(range(10))
        finally:
            await caller.close()


async def test_a_bot_that_speaks_before_the_caller_is_there_is_heard() -> None:
    async with TransportSite() as site:
        caller = FakeCaller(site.url)
        try:
            await caller.dial()
            await until(lambda: site.calls)
            await site.call.say(said(speech(600, 2.0)), TTSStoppedFrame())
            await caller.hears(600)
            await until(lambda: len(site.call.after.of(TTSAudioRawFrame)) == 50)
        finally:
            await caller.close()


async def test_a_request_for_an_image_is_answered_at_once() -> None:
    answers: list[Any] = []

    async def answer(result: Any) -> None:
        answers.append(result)

    async with TransportSite(video_in_enabled=True) as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        request = UserImageRequestFrame(user_id=caller.pc_id or "", result_callback=answer)
        await site.call.say(request)
        await until(lambda: answers)
        assert "no video" in answers[0]["error"]


async def test_mistakes_are_the_mistakes_of_one_call(caplog: pytest.LogCaptureFixture) -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: site.calls)
        call = site.call

        @call.transport.event_handler("on_app_message")
        async def fail(_transport: Any, message: Any, _sender: str) -> None:
            raise RuntimeError(f"cannot take {message}")

        caller.send({"first": 1})
        await until(lambda: call.messages() == [{"first": 1}])
        await until(lambda: "cannot take" in caplog.text)
        assert "test_transport_callers.py" in caplog.text
        wrong = OutputAudioRawFrame(b"odd", 24_000, 1)
        await call.say(OutputTransportMessageUrgentFrame(object()), wrong)
        await call.say(OutputTransportMessageFrame(object()))
        await until(lambda: len(call.before.of(ErrorFrame)) >= 3)
        await call.say(OutputTransportMessageFrame({"still": "there"}), said(speech(600, 2.0)))
        await caller.until(lambda: {"still": "there"} in caller.messages, "the next message")
        await caller.hears(600)


async def test_a_second_transport_for_a_caller_is_refused_and_the_first_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with TransportSite() as site, FakeCaller(site.url) as caller:
        await until(lambda: coming_and_going(site) == [CAME] if site.calls else False)
        other = SmallWebRTCTransport(site.call.connection, TransportParams())
        with pytest.raises(AlreadyAttached):
            await other.output().setup(setup())
        await other.output().cleanup()
        assert await other.output().write_audio_frame(said(speech(900, 0.04))) is False
        await site.call.say(said(speech(600, 2.0)))
        await caller.hears(600)


async def test_what_is_asked_before_the_setup_has_a_clear_answer() -> None:
    connection = SmallWebRTCConnection()
    transport = SmallWebRTCTransport(connection, TransportParams(), "in", "out")
    assert (transport.input().name, transport.output().name) == ("in", "out")
    assert transport.input() is transport.input()
    assert (transport.input().sample_rate, transport.output().audio_chunk_size) == (0, 0)
    client = transport.input()._client
    assert (client.is_connected, client.is_closing) == (False, False)
    with pytest.raises(StateError):
        await client.connect()
    await client.disconnect()
    assert await client.write_audio_frame(said(speech(600, 0.04))) is False
    await client.setup(TransportParams(), setup())
    with pytest.raises(StateError, match="initialize"):
        await client.connect()
    await transport.send_audio(said(speech(600, 0.04)))


async def test_both_forms_of_capture_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    transport = SmallWebRTCTransport(SmallWebRTCConnection(), TransportParams())
    transport.input()
    await transport.capture_participant_video("screenVideo")
    await transport.capture_participant_video(video_source="camera")
    await transport.capture_participant_video("some-pc", 5, "camera", on_request_only=False)
    await transport.capture_participant_audio()
    assert caplog.text.count("is not captured") == 3
    for wrong in (
        transport.capture_participant_video("some-pc", 5, "window"),
        transport.capture_participant_audio("camera"),
    ):
        with pytest.raises(ValueError, match="not"):
            await wrong


def test_the_fourth_callback_is_optional() -> None:
    async def heard(*_: Any) -> None:
        pass

    callbacks = SmallWebRTCCallbacks(
        on_app_message=heard, on_client_connected=heard, on_client_disconnected=heard
    )
    client = SmallWebRTCClient(SmallWebRTCConnection(), callbacks)
    assert callbacks.on_track_status is None
    assert client.FORMAT_CONVERSIONS["nv12"] == 90
