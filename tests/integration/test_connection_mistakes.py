"""What is asked of a connection wrongly or at the wrong time: a clear answer to that call alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiortc.mediastreams import MediaStreamError
from fastapi import HTTPException

from engine.transports import home
from engine.transports.base import BaseAudioMixer, TransportParams
from engine.transports.processors import FrameProcessorSetup, SystemClock, TaskManager
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from engine.transports.smallwebrtc.request_handler import (
    IceCandidate,
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from engine.transports.smallwebrtc.transport import SmallWebRTCCallbacks, SmallWebRTCClient
from ipc.errors import BackbeatError, NegotiationError, SessionClosed, StateError
from tests.fakes import offers
from tests.fakes.audio import silence_source
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import serve_of_a_module
from tests.fakes.transport_site import TransportSite
from tests.support import turn, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from engine.transports.frames import MixerControlFrame
    from tests.fakes.serve import ServeProcess

pytestmark = pytest.mark.xdist_group("connection mistakes")

OFFER = offers.offer(offers.audio(), offers.data())
BAD_PORT = "candidate:1 1 udp 1 127.0.0.1 port typ host"


class Hum(BaseAudioMixer):
    """Counts how much it was asked for."""

    def __init__(self) -> None:
        self.samples = 0

    async def start(self, sample_rate: int) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def process_frame(self, frame: MixerControlFrame) -> None:
        pass

    async def mix(self, audio: bytes) -> bytes:
        self.samples += len(audio) // 2
        return audio


@pytest.fixture(scope="module")
def serve() -> Iterator[ServeProcess]:
    """Not the one of all tests: a caller who has been let go before it came is waited for."""
    with serve_of_a_module("--bots", "0") as process:
        yield process


@pytest.fixture(autouse=True)
async def ended_homes(found_serve: ServeProcess) -> AsyncIterator[None]:
    yield
    await home.end_all()


def client_of(connection: SmallWebRTCConnection) -> SmallWebRTCClient:
    async def heard(*_: Any) -> None:
        pass

    callbacks = SmallWebRTCCallbacks(
        on_app_message=heard, on_client_connected=heard, on_client_disconnected=heard
    )
    return SmallWebRTCClient(connection, callbacks)


async def test_a_connect_before_the_caller_counts_for_nothing() -> None:
    connection = SmallWebRTCConnection()
    with pytest.raises(StateError, match="initialize"):
        await connection.connect()
    await connection.initialize(OFFER, "offer")
    await connection.connect()
    assert connection.session.speaker_hz == 48_000
    await connection.connect()
    await connection.disconnect()


async def test_a_client_that_could_not_connect_has_no_user_more() -> None:
    connection = SmallWebRTCConnection()
    client = client_of(connection)
    await client.setup(TransportParams(), FrameProcessorSetup(SystemClock(), TaskManager()))
    with pytest.raises(StateError, match="initialize"):
        await client.connect()
    await connection.initialize(OFFER, "offer")
    await client.connect()
    await client.disconnect()
    assert client.is_closing
    assert connection.session.closed


async def test_a_client_without_rates_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match="setup"):
        await client_of(SmallWebRTCConnection()).setup(TransportParams())


async def test_a_second_initialize_leaves_the_first() -> None:
    connection = SmallWebRTCConnection()
    await connection.initialize(OFFER, "offer")
    answer = connection.get_answer()
    with pytest.raises(StateError, match="before"):
        await connection.initialize(OFFER, "offer")
    assert connection.get_answer() == answer
    await connection.disconnect()


async def test_one_that_failed_may_be_initialized_again() -> None:
    connection = SmallWebRTCConnection()
    with pytest.raises(BackbeatError):
        await connection.initialize("nonsense", "offer")
    with pytest.raises(NegotiationError, match="answer"):
        await connection.initialize(OFFER, "answer")
    await connection.initialize(OFFER, "offer")
    await connection.disconnect()


async def test_a_bad_offer_or_candidate_leaves_the_call_as_it_is() -> None:
    connection = SmallWebRTCConnection()
    await connection.initialize(OFFER, "offer")
    answer = connection.get_answer()
    with pytest.raises(BackbeatError):
        await connection.renegotiate("nonsense", "offer")
    with pytest.raises(BackbeatError):
        await connection.add_ice_candidate("candidate:what is this")
    with pytest.raises(BackbeatError):
        connection.send_app_message({"not": object()})
    assert connection.get_answer() == answer
    assert not connection.session.closed
    await connection.disconnect()


async def test_after_the_end_every_call_says_so() -> None:
    connection = SmallWebRTCConnection()
    await connection.initialize(OFFER, "offer")
    await connection.connect()
    track = connection.audio_input_track()
    assert track is not None
    await connection.disconnect()
    await connection.disconnect()
    with pytest.raises(SessionClosed):
        connection.send_app_message({"too": "late"})
    with pytest.raises(SessionClosed):
        connection.ask_to_renegotiate()
    for later in (
        connection.renegotiate(OFFER, "offer"),
        connection.renegotiate(OFFER, "offer", True),
        connection.add_ice_candidate(None),
    ):
        with pytest.raises(BackbeatError):
            await later
    with pytest.raises(MediaStreamError):
        await track.recv()
    assert not connection.is_connected()
    assert connection.get_answer() is not None


async def test_a_callback_that_raises_does_not_cost_the_caller_its_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = SmallWebRTCRequestHandler()

    async def fail(_connection: Any) -> None:
        raise RuntimeError("no bot today")

    answer = await handler.handle_web_request(SmallWebRTCRequest(OFFER, "offer"), fail)
    assert answer is not None
    assert "no bot today" in caplog.text
    await handler.close()


@pytest.mark.parametrize("text", ["candidate:what is this", "nonsense", BAD_PORT])
async def test_a_candidate_that_is_none_is_the_callers_fault(text: str) -> None:
    handler = SmallWebRTCRequestHandler()

    async def came(_connection: Any) -> None:
        pass

    answer = await handler.handle_web_request(SmallWebRTCRequest(OFFER, "offer"), came)
    assert answer is not None
    wrong = SmallWebRTCPatchRequest(answer["pc_id"], [IceCandidate(text, "0", 0)])
    with pytest.raises(HTTPException) as refused:
        await handler.handle_patch_request(wrong)
    assert refused.value.status_code == 400
    await handler.close()


async def test_a_type_that_is_no_offer_is_the_callers_fault() -> None:
    handler = SmallWebRTCRequestHandler()
    request = SmallWebRTCRequest(OFFER, "answer")
    with pytest.raises(HTTPException) as refused:
        await handler.handle_web_request(request, lambda _connection: turn())
    assert refused.value.status_code == 400


async def test_a_mixer_for_a_caller_who_vanished_keeps_the_time() -> None:
    hum = Hum()
    async with (
        TransportSite(audio_out_mixer=hum) as site,
        FakeCaller(site.url, silence_source()) as caller,
    ):
        await until(lambda: hum.samples > 12_000)
        caller.vanish()
        await until(lambda: "on_client_disconnected" in site.call.events())
        loop = asyncio.get_running_loop()
        began_s, before = loop.time(), hum.samples
        await until(lambda: loop.time() - began_s > 1.5)
        elapsed_s = loop.time() - began_s
        # It may hold for a while; it never runs ahead of the time by more than its lead.
        assert hum.samples - before <= (elapsed_s + 0.3) * 24_000


async def test_a_mixer_for_a_caller_who_has_not_come_keeps_the_time() -> None:
    hum = Hum()
    async with TransportSite(audio_out_mixer=hum) as site:
        caller = FakeCaller(site.url)
        caller.ignores_answers = True
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await caller.dial()
            await until(lambda: site.calls)
            await until(lambda: loop.time() - began_s > 1.5)
            assert hum.samples <= (loop.time() - began_s + 0.3) * 24_000
        finally:
            await caller.close()
