"""A caller: a browser's part of a call, played by aiortc on one address, by default loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import aiortc.rtcicetransport
import httpx
import numpy as np
from aioice.ice import Connection
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from tests.fakes.audio import FRAME, HZ, Samples, level_db, pitch_hz, tone_source
from tests.fakes.serve import NO_TLS
from tests.support import DEADLINE_S, turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc import RTCDataChannel

# How many packets a caller waits between two looks at a spectrum.
LOOK_FRAMES = 5


class _OneAddress(Connection):
    address = "127.0.0.1"

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> Any:
        return await super().get_component_candidates(component, [self.address], timeout)

    async def connect(self) -> None:
        await super().connect()
        if self._closing and self._query_consent_task is not None:
            # Closed meanwhile: aioice would go on asking for consent.
            self._query_consent_task.cancel()
            raise ConnectionError("closed while it connected")


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Microphone(MediaStreamTrack):
    """20 ms of a source, each on its time."""

    kind = "audio"

    def __init__(self, source: Callable[[int, int], Samples]) -> None:
        super().__init__()
        self.source = source
        self.sent = 0
        self._began = 0.0

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        self._began = self._began or loop.time()
        due = loop.create_future()
        timer = loop.call_at(self._began + self.sent / HZ, _release, due)
        try:
            await due
        finally:
            timer.cancel()
        pcm = self.source(self.sent, FRAME)
        frame = AudioFrame(format="s16", layout="stereo", samples=FRAME)
        # Stereo, because aiortc's own conversion of mono loses 3 dB.
        frame.planes[0].update(np.repeat(pcm, 2).tobytes())
        frame.sample_rate = HZ
        frame.time_base = Fraction(1, HZ)
        frame.pts = self.sent
        self.sent += FRAME
        return frame


class Refused(AssertionError):
    """The engine answered an offer with an error."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} {response.text}")
        self.status = response.status_code
        self.body: dict[str, Any] = response.json()


class FakeCaller:
    """One caller. `messages`, `heard` and `states` grow while the call lasts."""

    def __init__(
        self,
        url: str,
        source: Callable[[int, int], Samples] | None = None,
        *,
        request_data: Any = None,
        trickle: bool = False,
        address: str = "127.0.0.1",
        configuration: RTCConfiguration | None = None,
    ) -> None:
        self.messages: list[Any] = []
        self.states: list[str] = []
        self.pc_id: str | None = None
        self.answers: list[str] = []
        self.mic: _Microphone | None = None
        self.ignores_answers = False
        self._source = source or tone_source(440)
        self._request_data = request_data
        self._trickle = trickle
        self._configuration = configuration or RTCConfiguration(iceServers=[])
        self._connection = type("_Connection", (_OneAddress,), {"address": address})
        self._http = httpx.AsyncClient(
            base_url=url, trust_env=False, verify=NO_TLS, timeout=DEADLINE_S
        )
        self._frames: deque[Samples] = deque()
        self._pc: RTCPeerConnection | None = None
        self._channel: RTCDataChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- signaling --------------------------------------------------------------------------

    async def connect(self, *, restart: bool = False) -> None:
        """Offer a new peer connection and wait until it is connected and the channel is open."""
        await self.dial(restart=restart)
        await self.until(lambda: self.connected and self.channel_open, "connected with a channel")

    async def dial(self, *, restart: bool = False) -> None:
        """Offer a new peer connection, in place of the one before."""
        old = self._pc
        with mock.patch.object(aiortc.rtcicetransport, "Connection", self._connection):
            self._pc = pc = RTCPeerConnection(self._configuration)
            self.mic = _Microphone(self._source)
            pc.addTrack(self.mic)
            channel = self._channel = pc.createDataChannel("chat", ordered=True)
        channel.on("message", self._receive)
        channel.on("open", self._pulse)
        pc.on("track", self._listen)
        pc.on("connectionstatechange", lambda: self._state(pc))
        await self._negotiate(restart=restart)
        if old is not None:
            await old.close()

    async def renegotiate(self) -> None:
        """Offer once more on the same peer connection."""
        await self._negotiate(restart=False)

    async def _negotiate(self, *, restart: bool) -> None:
        pc = self.pc
        await pc.setLocalDescription(await pc.createOffer())
        sdp = pc.localDescription.sdp
        candidates = [line for line in sdp.splitlines() if line.startswith("a=candidate:")]
        if self._trickle:
            lines = [
                line
                for line in sdp.splitlines()
                if not line.startswith(("a=candidate:", "a=end-of-candidates"))
            ]
            sdp = "\r\n".join(lines) + "\r\n"
        body = {"sdp": sdp, "type": "offer", "pc_id": self.pc_id, "restart_pc": restart}
        if self._request_data is not None:
            body["request_data"] = self._request_data
        answer = await self._ask("POST", body)
        self.pc_id = answer["pc_id"]
        self.answers.append(answer["sdp"])
        if self.ignores_answers:
            return
        await pc.setRemoteDescription(RTCSessionDescription(sdp=answer["sdp"], type="answer"))
        if self._trickle:
            found = [
                {"candidate": line.removeprefix("a="), "sdp_mid": "0", "sdp_mline_index": 0}
                for line in candidates
            ]
            end = {"candidate": "", "sdp_mid": None, "sdp_mline_index": 0}
            await self._ask("PATCH", {"pc_id": self.pc_id, "candidates": [*found, end]})

    async def _ask(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        response = await self._http.request(method, "/api/offer", json=body)
        if response.status_code != 200:
            raise Refused(response)
        answer: dict[str, Any] = response.json()
        return answer

    # -- the call ---------------------------------------------------------------------------

    @property
    def pc(self) -> RTCPeerConnection:
        """The peer connection of the moment."""
        assert self._pc is not None, "the caller has not dialled"
        return self._pc

    @property
    def connected(self) -> bool:
        """Whether media flows."""
        return self.pc.connectionState == "connected"

    @property
    def channel_open(self) -> bool:
        """Whether messages can be sent."""
        return self._channel is not None and self._channel.readyState == "open"

    def send(self, data: Any) -> None:
        """Send text as it is, bytes as they are and anything else as JSON."""
        assert self._channel is not None
        self._channel.send(data if isinstance(data, str | bytes) else json.dumps(data))

    def say(self, source: Callable[[int, int], Samples]) -> None:
        """From now on send this."""
        assert self.mic is not None
        self._source = self.mic.source = source

    def heard(self, seconds: float | None = None) -> Samples:
        """What came back, or its last `seconds`."""
        if seconds is None:
            return np.concatenate(self._frames) if self._frames else np.zeros(0, np.int16)
        wanted = round(seconds * HZ)
        last: list[Samples] = []
        count = 0
        for frame in reversed(self._frames):
            if count >= wanted:
                break
            last.append(frame)
            count += len(frame)
        return np.concatenate(last[::-1])[-wanted:] if last else np.zeros(0, np.int16)

    def vanish(self) -> None:
        """Be gone without a word: the sockets close, and nothing is said before."""
        transport: Any = self.pc.getTransceivers()[0].sender.transport
        for protocol in transport.transport._connection._protocols:
            protocol.transport.abort()
        self.forget()

    def forget(self) -> None:
        """Begin `heard` anew."""
        self._frames.clear()

    @property
    def left(self) -> bool:
        """Whether the engine said that the bot ended the call."""
        return any(
            message.get("message", {}).get("type") == "peerLeft"
            for message in self.messages
            if isinstance(message, dict) and message.get("type") == "signalling"
        )

    async def hears(
        self,
        hertz: float,
        *,
        db: float | None = None,
        within_db: float = 1.0,
        seconds: float = 0.5,
        timeout_s: float = DEADLINE_S,
    ) -> None:
        """Wait until the last `seconds` are a tone of that frequency, and of that level."""
        looked_at = -LOOK_FRAMES

        def good() -> bool:
            nonlocal looked_at
            # A spectrum for each packet would take more time than the call.
            if 0 <= len(self._frames) - looked_at < LOOK_FRAMES:
                return False
            last = self.heard(seconds)
            if len(last) < seconds * HZ:
                return False
            looked_at = len(self._frames)
            if abs(pitch_hz(last) - hertz) > 0.01 * hertz:
                return False
            return db is None or abs(level_db(last) - db) <= within_db

        await self.until(good, f"a tone of {hertz} Hz, level {db}", timeout_s)

    async def hears_silence(self, seconds: float = 0.5) -> None:
        """Wait until the last `seconds` are silent."""
        await self.until(
            lambda: (
                len(self.heard(seconds)) >= seconds * HZ and level_db(self.heard(seconds)) < -50
            ),
            "silence",
        )

    async def until(
        self, condition: Callable[[], bool], what: str = "", timeout_s: float = DEADLINE_S
    ) -> None:
        """Return when the condition holds; it is looked at whenever something came."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    waiter = asyncio.get_running_loop().create_future()
                    self._changed.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._changed.discard(waiter)
        except TimeoutError:
            last = self.heard(0.5)
            raise AssertionError(
                f"the caller waited {timeout_s:g} s for {what or 'a condition'}; states "
                f"{self.states}, {len(self.heard()) / HZ:.1f} s heard, of late "
                f"{level_db(last):.1f} dB at {pitch_hz(last):.0f} Hz, "
                f"messages {str(self.messages)[-300:]}"
            ) from None

    async def close(self) -> None:
        """Leave. Safe to call twice."""
        if self._pc is not None:
            await self._pc.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    # -- what comes -------------------------------------------------------------------------

    def _pulse(self) -> None:
        for waiter in self._changed:
            _release(waiter)

    def _state(self, pc: RTCPeerConnection) -> None:
        if pc is self._pc:
            self.states.append(pc.connectionState)
            self._pulse()

    def _receive(self, message: str | bytes) -> None:
        value: Any = message
        if isinstance(message, str):
            with contextlib.suppress(ValueError):
                value = json.loads(message)
        self.messages.append(value)
        self._pulse()

    def _listen(self, track: MediaStreamTrack) -> None:
        task = asyncio.create_task(self._hear(track), name="caller hears")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
                self._frames.append(samples.mean(axis=1).astype(np.int16))
                self._pulse()
                # Frames that have waited come at once: whoever listens looks at each of them.
                await turn()
