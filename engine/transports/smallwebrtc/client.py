"""What the two ends of a transport share: one caller's connection, its audio and its messages.

Thin: the connection tells what happens to the caller, the session beneath it carries the audio.
Nothing here decides when anything leaves; the worker's pacer does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ReferenceType, WeakKeyDictionary, ref

from pydantic import BaseModel

from engine.transports.base.session_audio import SessionAudio, declared, hear, ring_rate
from engine.transports.frames import InputAudioRawFrame, UserImageRawFrame
from engine.transports.smallwebrtc.images import FORMAT_CONVERSIONS, check_image
from ipc.errors import AlreadyAttached, SessionClosed, StateError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine.sdk import Session
    from engine.transports.base.mixer import BaseAudioMixer
    from engine.transports.base.params import TransportParams
    from engine.transports.base.session_playout import SessionPlayout
    from engine.transports.base.sum import Line
    from engine.transports.frames import (
        OutputAudioRawFrame,
        OutputImageRawFrame,
        OutputTransportMessageFrame,
        OutputTransportMessageUrgentFrame,
        StartFrame,
    )
    from engine.transports.processors import FrameProcessorSetup
    from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

log = logging.getLogger(__name__)

SOURCES = ("microphone", "camera", "screenVideo")

# Who serves a connection: one client at a time.
_clients: WeakKeyDictionary[Any, ReferenceType[SmallWebRTCClient]] = WeakKeyDictionary()


class SmallWebRTCCallbacks(BaseModel):
    """Who is told of a caller: its messages (message, `pc_id`), its coming and going (the
    connection), and which of its tracks it turns on or off (source, enabled)."""

    on_app_message: Callable[[Any, str], Awaitable[None]]
    on_client_connected: Callable[[Any], Awaitable[None]]
    on_client_disconnected: Callable[[Any], Awaitable[None]]
    on_track_status: Callable[[str, bool], Awaitable[None]] | None = None


class SmallWebRTCClient:
    """One caller, for the input and the output of a transport.

    `setup`, then `connect` by each user; the last `disconnect` ends the call.
    """

    FORMAT_CONVERSIONS: ClassVar[dict[str, int]] = FORMAT_CONVERSIONS

    def __init__(
        self, webrtc_connection: SmallWebRTCConnection, callbacks: SmallWebRTCCallbacks
    ) -> None:
        self._connection = webrtc_connection
        self._callbacks = callbacks
        self._params: TransportParams | None = None
        self._in_hz = self._out_hz = 0
        self._users = 0
        self._connecting = asyncio.Lock()
        self._opened = asyncio.Event()
        self._closing = False
        # Whether `on_client_connected` was told and its counterpart was not.
        self._announced = False
        # Whether nobody came yet, nor is known to have given up.
        self._awaited = True
        self._audio: SessionAudio | None = None
        for event, handler in (
            ("connected", self._caller_came),
            ("disconnected", self._caller_gone),
            ("closed", self._ended),
            ("app-message", self._message_came),
            ("track-status", self._track_changed),
        ):
            webrtc_connection.add_event_handler(event, handler)

    @property
    def is_connected(self) -> bool:
        """Whether the caller is there."""
        return self._connection.is_connected()

    @property
    def is_closing(self) -> bool:
        """Whether the call is being ended from here."""
        return self._closing

    @property
    def connection(self) -> SmallWebRTCConnection:
        """The connection, as event handlers get it."""
        return self._connection

    @property
    def pc_id(self) -> str:
        """By which the caller names its connection."""
        return self._connection.pc_id

    # -- life -------------------------------------------------------------------------------

    async def setup(
        self,
        _params: TransportParams,
        frame: StartFrame | FrameProcessorSetup | None = None,
        *,
        setup: StartFrame | FrameProcessorSetup | None = None,
    ) -> None:
        """Take the parameters, and the pipeline's rates from its setup or its StartFrame.

        Both ends of a transport do so; the first time counts. Raises ConfigError(`rate`).
        """
        if self._params is not None:
            return
        given: Any = frame or setup
        if given is None:
            raise TypeError(
                "setup(params, setup): the pipeline's setup or its StartFrame is missing"
            )
        in_hz: int = _params.audio_in_sample_rate or given.audio_in_sample_rate
        out_hz: int = _params.audio_out_sample_rate or given.audio_out_sample_rate
        ring_rate(out_hz)  # refuses what cannot be carried
        self._params, self._in_hz, self._out_hz = _params, in_hz, out_hz

    async def connect(self) -> None:
        """Have audio flow and let the events begin; what a second user does is only counted.

        Raises StateError before `setup`, AlreadyAttached when another transport has the
        connection, and what `SmallWebRTCConnection.open_media` raises. Whoever fails or is
        cancelled is no user, and a call that has no other one then ends.
        """
        params = self._checked_params()
        if self._closing:
            return
        if self._owner() not in (None, self):
            raise AlreadyAttached("another transport serves this connection")
        _clients[self._connection] = ref(self)
        self._users += 1
        try:
            async with self._connecting:
                if not self._opened.is_set():
                    await self._open_or_end(params)
        except BaseException as error:
            self._users -= 1
            if not self._users:
                self._disown()
                if not isinstance(error, StateError):  # then it is somebody else's call, or none
                    await self._connection.disconnect()
            raise

    async def _open_or_end(self, params: TransportParams) -> None:
        try:
            await self._open(params)
        except SessionClosed:
            log.info("the caller of %s left before the bot was there", self._connection)
            # The end may have been told before anybody listened.
            await self._ended(self._connection)
        self._opened.set()

    async def _open(self, params: TransportParams) -> None:
        connection = self._connection
        await connection.open_media(
            mic_hz=ring_rate(self._in_hz),
            speaker_hz=ring_rate(self._out_hz),
            mic_channels=params.audio_in_channels,
            speaker_channels=params.audio_out_channels,
        )
        session = connection.session
        given = params.model_fields_set
        changes: dict[str, Any] = {}
        if "audio_out_bitrate" in given:
            changes["bitrate_bps"] = params.audio_out_bitrate
        if not (params.audio_out_enabled and params.audio_out_auto_silence):
            changes["silence"] = False
        if changes:
            await session.configure(**changes)
        self._audio = SessionAudio(
            session, params, hz=self._out_hz, present=connection.is_connected
        )
        await connection.connect()

    async def disconnect(self) -> None:
        """One user less; the last one ends the call. Safe to call more often than `connect`."""
        if not self._users or self._closing:
            return
        self._users -= 1
        if self._users:
            return
        self._closing = True
        self._disown()
        if self._audio is not None:
            await self._audio.close()
        await self._connection.disconnect()
        self._opened.set()

    def _disown(self) -> None:
        if self._owner() is self:
            del _clients[self._connection]

    def _owner(self) -> SmallWebRTCClient | None:
        found = _clients.get(self._connection)
        return found() if found is not None else None

    def _checked_params(self) -> TransportParams:
        if self._params is None:
            raise StateError("the client is not set up: await setup(params, setup) first")
        return self._params

    # -- audio ------------------------------------------------------------------------------

    async def read_audio_frame(self) -> AsyncGenerator[InputAudioRawFrame, None]:
        """What the caller says, 20 ms a frame, until the call ends; silence while it is muted.

        `pts` is the frame's place since the call began, in ns. Waits until `connect` is done.
        """
        await self._opened.wait()
        session = self._session
        if session is None:
            return
        hz, channels = self._in_hz, self._checked_params().audio_in_channels
        async for pcm, pts in hear(session, hz, channels):
            frame = InputAudioRawFrame(pcm, hz, channels)
            frame.pts = pts
            yield frame

    def playout(self, destination: str | None) -> SessionPlayout | Line | None:
        """The way of a destination's audio to the caller; None for another, or before `connect`."""
        return self._audio.playout(destination) if self._audio is not None else None

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send audio; returns when unsent audio is within the lead.

        While the caller is away it holds, up to a second less than a write may take; after that,
        and until the caller is back, it takes a frame's real time and is False. At once False
        when the call is over, or was not begun.
        """
        if self._closing or self._audio is None:
            return False
        return await self._audio.write(frame)

    async def take_mixer(self, mixer: BaseAudioMixer, destination: str | None) -> bool:
        """Have the worker play a `SoundfileMixer` of the default destination."""
        session, sound = self._session, declared(mixer, destination)
        if session is None or sound is None:
            return False
        await session.configure(mixer=sound)
        return True

    @property
    def _session(self) -> Session | None:
        return self._connection.session if self._audio is not None else None

    # -- video ------------------------------------------------------------------------------

    async def read_video_frame(self, video_source: str) -> AsyncGenerator[UserImageRawFrame, None]:
        """What the caller shows. This engine carries no video yet: it only waits for the end.

        ValueError for a source that is neither "camera" nor "screenVideo".
        """
        check_source(video_source)
        await self._opened.wait()
        session = self._session
        if session is not None:
            await session.wait_closed()
        images: tuple[UserImageRawFrame, ...] = ()
        for image in images:
            yield image

    def video_source_enabled(self, video_source: str) -> bool:
        """Whether the caller shows something there."""
        return False

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        """Send an image. This engine carries no video yet: False, and ValueError for no image."""
        params = self._checked_params()
        check_image(frame, (params.video_out_width, params.video_out_height))
        return False

    # -- messages ---------------------------------------------------------------------------

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        """Send a message; it waits for the caller's channel, and is dropped after the end.

        Raises ProtocolError for what JSON cannot hold.
        """
        if self._closing:
            log.debug("a message after the end of %s", self._connection)
            return
        try:
            self._connection.send_app_message(frame.message)
        except SessionClosed:
            log.debug("a message after the end of %s", self._connection)

    # -- what the connection tells ----------------------------------------------------------

    async def _caller_came(self, _connection: Any) -> None:
        if self._audio is not None:
            self._audio.changed()
        if self._params is None or self._announced:
            return
        self._announced, self._awaited = True, False
        await self._callbacks.on_client_connected(self._connection)

    async def _caller_gone(self, _connection: Any) -> None:
        if self._announced and not self._closing:
            self._announced = False
            await self._callbacks.on_client_disconnected(self._connection)

    async def _ended(self, connection: Any) -> None:
        self._opened.set()
        # Whoever never came is told of as well: a bot that waits for the end would wait on.
        self._announced, self._awaited = self._announced or self._awaited, False
        await self._caller_gone(connection)

    async def _message_came(self, _connection: Any, message: Any) -> None:
        if not self._closing:
            await self._callbacks.on_app_message(message, self._connection.pc_id)

    async def _track_changed(self, _connection: Any, receiver_index: int, enabled: bool) -> None:
        told = self._callbacks.on_track_status
        if told is not None and 0 <= receiver_index < len(SOURCES):
            await told(SOURCES[receiver_index], enabled)


def check_source(source: str) -> None:
    """ValueError unless it is a source of video."""
    if source not in SOURCES[1:]:
        raise ValueError(f"a source of video is camera or screenVideo, not {source!r}")
