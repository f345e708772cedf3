"""The documented connection and request handler, called for real, in one's own application."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fastapi import FastAPI, Request

from engine.transports import home
from engine.transports.smallwebrtc.connection import IceServer, SmallWebRTCConnection
from engine.transports.smallwebrtc.request_handler import (
    ConnectionMode,
    IceCandidate,
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from engine.transports.smallwebrtc.tracks import RawAudioTrack
from ipc.errors import BackbeatError, StateError
from tests.fakes.audio import pitch_hz, tone_source
from tests.fakes.caller import FakeCaller, Refused
from tests.fakes.user_app import serving_app
from tests.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


pytestmark = pytest.mark.usefixtures("found_serve")


class Site:
    """A user's application: `/api/offer` on a request handler, and what its connections told."""

    def __init__(self, **options: Any) -> None:
        self.handler = SmallWebRTCRequestHandler(**options)
        self.connections: list[SmallWebRTCConnection] = []
        self.told: list[tuple[str, Any]] = []
        self.url = ""
        self.connect_at_once = True
        self.app = FastAPI()
        self.app.post("/api/offer")(self._offer)
        self.app.patch("/api/offer")(self._candidates)

    async def _offer(self, request: Request) -> Any:
        return await self.handler.handle_web_request(
            SmallWebRTCRequest.from_dict(await request.json()), self._came
        )

    async def _candidates(self, request: Request) -> dict[str, str]:
        body = await request.json()
        candidates = [IceCandidate(**candidate) for candidate in body["candidates"]]
        await self.handler.handle_patch_request(SmallWebRTCPatchRequest(body["pc_id"], candidates))
        return {"status": "success"}

    async def _came(self, connection: SmallWebRTCConnection) -> None:
        self.connections.append(connection)
        for event in ("connecting", "connected", "disconnected", "closed", "failed"):
            connection.add_event_handler(event, self._listener(event))
        for event in ("app-message", "track-started", "track-ended"):
            connection.add_event_handler(event, self._listener(event))
        connection.add_event_handler("track-status", self._track)
        if self.connect_at_once:
            await connection.connect()

    def _listener(self, event: str) -> Any:
        async def heard(_connection: SmallWebRTCConnection, *arguments: Any) -> None:
            self.told.append((event, *arguments[:1]) if arguments else (event, None))

        return heard

    async def _track(self, _connection: Any, index: int, enabled: bool) -> None:
        self.told.append(("track-status", (index, enabled)))

    def events(self, *wanted: str) -> list[str]:
        return [event for event, _ in self.told if event in wanted]

    @property
    def connection(self) -> SmallWebRTCConnection:
        return self.connections[-1]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running(Site()) as site:
        yield site


def pitch_of(frames: Iterable[Any]) -> float:
    return pitch_hz(np.concatenate([frame.to_ndarray()[0] for frame in frames]))


class running:
    """The site served."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._served = serving_app(site.app)

    async def __aenter__(self) -> Site:
        self._site.url = await self._served.__aenter__()
        return self._site

    async def __aexit__(self, *error: Any) -> None:
        await self._served.__aexit__(None, None, None)
        await self._site.handler.close()
        await home.end_all()


async def test_a_caller_is_answered_heard_and_let_go(site: Site) -> None:
    async with FakeCaller(site.url, tone_source(440)) as caller:
        await until(lambda: "connected" in site.events("connected"))
        assert site.connection.is_connected()
        assert site.connection.pc_id == caller.pc_id
        track = site.connection.audio_input_track()
        assert track is not None
        heard: deque[Any] = deque(maxlen=25)
        # The caller is silent where this process stands still.
        while len(heard) < 25 or abs(pitch_of(heard) - 440) >= 5:
            frame = await track.recv()
            assert frame.sample_rate == 48_000
            heard.append(frame)
    await until(lambda: site.events("closed"))
    assert site.events("connected", "disconnected", "closed")[-1] == "closed"
    assert site.events("track-started", "track-ended") == ["track-started", "track-ended"]
    assert not site.connection.is_connected()


async def test_a_track_that_replaces_ours_is_pulled_and_heard(site: Site) -> None:
    async with FakeCaller(site.url) as caller:
        await until(lambda: site.connections)
        track = RawAudioTrack(24_000)
        site.connection.replace_audio_track(track)
        tone = tone_source(600)(0, 48_000)[::2]
        for _ in range(4):
            track.add_audio_bytes(tone.tobytes())
        await caller.hears(600)
        site.connection.replace_audio_track(None)
        await caller.hears_silence()
        track.stop()


async def test_connected_is_held_back_until_somebody_connects(site: Site) -> None:
    site.connect_at_once = False
    async with FakeCaller(site.url) as caller:
        caller.send({"first": 1})
        caller.send({"second": 2})
        await until(lambda: "connected" in caller.states)
        session = site.connection.session
        await until(lambda: session.pc_id)
        assert site.events("connected", "app-message") == []
        await site.connection.connect()
        await until(lambda: len(site.events("app-message")) == 2)
    told = [what for event, what in site.told if event == "app-message"]
    assert told == [{"first": 1}, {"second": 2}]
    assert site.events("connected", "app-message")[0] == "connected"


async def test_messages_to_the_caller_wait_for_its_channel_and_keep_their_order(site: Site) -> None:
    site.connect_at_once = False
    async with FakeCaller(site.url) as caller:
        await until(lambda: site.connections)
        for number in range(5):
            site.connection.send_app_message({"n": number})
        await caller.until(lambda: len(caller.messages) >= 5, "five messages")
    assert [message["n"] for message in caller.messages[:5]] == list(range(5))


async def test_a_restart_keeps_the_session_and_both_ids_lead_to_it(site: Site) -> None:
    async with FakeCaller(site.url) as caller:
        await until(lambda: site.events("connected"))
        session, before = site.connection.session, site.connection.pc_id
        site.connection.replace_audio_track(track := RawAudioTrack(48_000))
        await caller.dial(restart=True)
        assert site.connection.session is session
        assert len(site.connections) == 1
        assert site.connection.pc_id != before
        assert site.events("connected", "disconnected") == ["connected"]
        for _ in range(4):
            track.add_audio_bytes(tone_source(500)(0, 48_000).tobytes())
        await caller.hears(500)
        track.stop()


async def test_a_disconnect_from_here_says_goodbye(site: Site) -> None:
    async with FakeCaller(site.url) as caller:
        await until(lambda: site.events("connected"))
        await site.connection.disconnect()
        await site.connection.disconnect()
        await caller.until(
            lambda: {"type": "signalling", "message": {"type": "peerLeft"}} in caller.messages,
            "peerLeft",
        )
        await until(lambda: site.events("closed") == ["closed"])
    with pytest.raises(BackbeatError):
        site.connection.send_app_message({"too": "late"})


async def test_the_single_mode_takes_one_caller() -> None:
    async with running(Site(connection_mode=ConnectionMode.SINGLE)) as site:
        async with FakeCaller(site.url) as first:
            await until(lambda: site.events("connected"))
            with pytest.raises(Refused) as refused:
                async with FakeCaller(site.url):
                    pass
            assert refused.value.status == 400
            await first.renegotiate()
        await until(lambda: site.events("closed"))
        async with FakeCaller(site.url):
            await until(lambda: len(site.events("connected")) == 2)


async def test_an_offer_that_cannot_be_read_is_the_callers_fault(site: Site) -> None:
    request = SmallWebRTCRequest(sdp="nonsense", type="offer")
    with pytest.raises(Exception) as failed:
        await site.handler.handle_web_request(request, site._came)
    assert getattr(failed.value, "status_code", 0) == 400
    assert site.connections == []


async def test_candidates_for_nobody_are_404(site: Site) -> None:
    request = SmallWebRTCPatchRequest("nobody", [IceCandidate("", None, None)])
    with pytest.raises(Exception) as failed:
        await site.handler.handle_patch_request(request)
    assert getattr(failed.value, "status_code", 0) == 404


def test_what_needs_a_caller_says_so_before_there_is_one() -> None:
    connection = SmallWebRTCConnection()
    assert connection.get_answer() is None
    assert not connection.is_connected()
    assert connection.audio_input_track() is None
    for call in (lambda: connection.session, lambda: connection.pc):
        with pytest.raises(StateError):
            call()
    with pytest.raises(StateError, match="initialize"):
        connection.send_app_message({})


def test_ice_servers_are_urls_or_objects_but_not_both() -> None:
    assert SmallWebRTCConnection(["stun:a"]).ice_servers == [IceServer(urls="stun:a")]
    with pytest.raises(TypeError):
        SmallWebRTCConnection(["stun:a", IceServer(urls="stun:b")])  # type: ignore[arg-type]
