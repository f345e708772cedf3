"""The documented session: raw messages when it is used alone, a pipeline's audio otherwise.

A transport's ends `prepare` it and `open_media` at the start: then audio goes through rings, or as
messages of a serializer that runs here, and `on_message` gets what is not audio.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from engine.sdk.websocket import wire_of
from engine.transports import frames as our_frames
from engine.transports.base.session_audio import SessionAudio, declared, hear, ring_rate
from engine.transports.base.session_playout import PIECE_MS
from engine.transports.websocket.connection import Connection
from engine.transports.websocket.message_speech import MessageSpeech
from ipc.errors import BackbeatError, SessionClosed
from ipc.serializers import FrameSerializer, ProtobufFrameSerializer
from ipc.serializers.wav import wav_header

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine.transports.base import BaseAudioMixer
    from engine.transports.base.session_playout import SessionPlayout
    from engine.transports.base.sum import Line
    from engine.transports.processors import FrameProcessorSetup
    from engine.transports.websocket.params import (
        WebsocketClientCallbacks,
        WebsocketClientParams,
    )

log = logging.getLogger(__name__)

# Within which a pipeline at the other end answers an interruption: a round trip and a pause there.
ANSWER_S = 1.0
# Of what came together in one frame: each costs a pipeline the same.
MOST_MS = 100


class WebsocketClientSession(Connection):
    """A connection to the server at `uri`.

    `setup`, then `connect` by each user; the last `disconnect` ends it. After its end, whoever
    ended it, `connect` dials anew. Alone, `on_message` gets every message.
    """

    # The module of the frames that are made here; another framework's of the same names fit.
    frames: Any = our_frames

    def __init__(
        self,
        uri: str,
        params: WebsocketClientParams,
        callbacks: WebsocketClientCallbacks,
        transport_name: str,
    ) -> None:
        super().__init__(uri, params, callbacks, transport_name)
        # The pipeline's rates, in and out; None when the session is used alone.
        self._rates: tuple[int, int] | None = None
        self._wire = "messages"
        self._prepared_by: FrameProcessorSetup | None = None
        self._opening = asyncio.Lock()
        self._unread = 0
        # Interruptions that may be answered, and until when.
        self._unanswered = 0
        self._answer_until = 0.0

    async def prepare(self, setup: FrameProcessorSetup) -> None:
        """Carry a pipeline's audio, at its rates. Both ends of a transport do so, once it counts.

        Raises ConfigError(`rate`), and what the serializer's `setup` raises.
        """
        await self.setup(setup.task_manager)
        if setup is self._prepared_by or self._is_live:
            return
        self._prepared_by = setup
        params = self._params
        in_hz = params.audio_in_sample_rate or setup.audio_in_sample_rate
        out_hz = params.audio_out_sample_rate or setup.audio_out_sample_rate
        for hz in (in_hz, out_hz):
            ring_rate(hz)  # refuses what cannot be carried
        self._rates = (in_hz, out_hz)
        self._wire, _ = wire_of(params.serializer)
        if params.serializer is not None and self._wire == "messages":
            await params.serializer.setup(setup)

    def _options(self) -> dict[str, Any]:
        options = super()._options()
        if self._rates is None:
            return options
        params = self._params
        options["chunk_ms"] = 10 * params.audio_out_10ms_chunks
        if self._wire == "messages":
            return options
        out_hz = self._rates[1]
        raw = self._wire == "raw_pcm"
        return options | {
            "serializer": params.serializer,
            # Rings at the StartFrame: what the server says before waits for them.
            "media": False,
            "out_hz": 0 if raw or ring_rate(out_hz) == out_hz else out_hz,
            # Who wants bare samples wants no header, unless it says so.
            "wav_header": params.add_wav_header
            and (not raw or "add_wav_header" in params.model_fields_set),
        }

    # -- messages -----------------------------------------------------------------------------

    async def send(self, message: str | bytes) -> bool:
        """Send a message as it is, now; whether it went to the open socket.

        Raises MessageTooLarge above 1 MiB.
        """
        if self._session is None or self._closing:
            return False
        return await self._session.send_raw(message)

    async def send_message(self, frame: Any) -> None:
        """Send an app message in the server's format; it is dropped while there is no connection.

        Raises ProtocolError for what the format cannot hold.
        """
        session, serializer = self._session, self._params.serializer
        if session is None or self._closing or session.closed or serializer is None:
            log.debug("%s: a message after the end", self)
            return
        if self._wire == "messages":
            message = await serializer.serialize(frame)
            if message:
                await self.send(message)
        elif not (
            isinstance(serializer, FrameSerializer) and serializer.should_ignore_frame(frame)
        ):
            try:
                session.send(frame.message)
            except SessionClosed:
                log.debug("%s: a message after the end", self)

    def interrupted(self) -> None:
        """An interruption leaves for the server.

        A pipeline there sends one back, as it does with any; taken for one of the server's own it
        would cut what is said next, and the two would go on like that.
        """
        self._unanswered += 1
        self._answer_until = asyncio.get_running_loop().time() + ANSWER_S

    def _is_answer(self) -> bool:
        """Whether an interruption that comes now is the answer to one of ours."""
        if asyncio.get_running_loop().time() >= self._answer_until:
            self._unanswered = 0
        if self._unanswered == 0:
            return False
        self._unanswered -= 1
        return True

    async def frame_of(self, message: str | bytes) -> Any:
        """What a message of the server holds, as a frame, or None. It never fails for it."""
        reader = self._reader()
        if reader is None:
            return None
        try:
            frame = await reader.deserialize(message)
        except Exception as error:
            self._unread += 1
            if self._unread & (self._unread - 1) == 0:  # the 1st, 2nd, 4th, 8th …
                log.warning(
                    "%s: %d messages could not be read: %s", self, self._unread, str(error)[:200]
                )
            return None
        is_interruption = isinstance(frame, self.frames.InterruptionFrame)
        return None if is_interruption and self._is_answer() else frame

    def _reader(self) -> Any:
        """The serializer that makes frames of messages: another framework's makes its own."""
        serializer = self._params.serializer
        if self._wire == "protobuf" and not isinstance(serializer, FrameSerializer):
            return ProtobufFrameSerializer()
        return serializer

    # -- audio --------------------------------------------------------------------------------

    async def open_media(self) -> None:
        """Have audio flow; both ends do so at the start, once it counts.

        Raises WorkerError, BotError, ConfigError, Overloaded.
        """
        async with self._opening:
            session, rates = self._session, self._rates
            if self._media_open.is_set() or session is None or rates is None or session.closed:
                return
            params = self._params
            if self._wire != "messages":
                try:
                    await session.open_media(
                        mic_hz=ring_rate(rates[0]),
                        speaker_hz=ring_rate(rates[1]),
                        mic_channels=params.audio_in_channels,
                        speaker_channels=params.audio_out_channels,
                    )
                except BackbeatError:
                    if not self._is_live:  # it has ended meanwhile, and that is told
                        return
                    raise
            here = self._wire == "messages"
            if here:
                self._speech = MessageSpeech(
                    session,
                    params.audio_out_channels,
                    audio=self._serialized,
                    interruption=self._interruption,
                )
            self._audio = SessionAudio(
                self._speech or session,
                params,
                hz=rates[1],
                present=lambda: self.is_connected,
                sounds_here=here,
                # The worker cuts samples into chunks; messages are what they are.
                piece_ms=10 * params.audio_out_10ms_chunks if here else PIECE_MS,
            )
            self._media_open.set()

    async def _serialized(self, pcm: bytes, hz: int) -> str | bytes | None:
        serializer, channels = self._params.serializer, self._params.audio_out_channels
        if serializer is None:
            return None
        if self._params.add_wav_header:
            pcm = wav_header(len(pcm), hz, channels) + pcm
        return await serializer.serialize(self.frames.OutputAudioRawFrame(pcm, hz, channels))

    async def _interruption(self) -> str | bytes | None:
        serializer = self._params.serializer
        if serializer is None:
            return None
        return await serializer.serialize(self.frames.InterruptionFrame())

    def playout(self, destination: str | None) -> SessionPlayout | Line | None:
        """The way of a destination's audio; None for one that there is not, or before the start."""
        return self._audio.playout(destination) if self._audio is not None else None

    async def write_audio_frame(self, frame: Any) -> bool:
        """Send audio; returns when unsent audio is within the lead.

        While the server is dialled again it takes a frame's real time and is False; at once
        False when the connection has ended, or was not begun.
        """
        if self._audio is None or not self._is_live:
            return False
        if self._away:
            await asyncio.sleep(frame.num_frames / frame.sample_rate)
            return False
        return await self._audio.write(frame)

    async def take_mixer(self, mixer: BaseAudioMixer, destination: str | None) -> bool:
        """Have the worker play a `SoundfileMixer` of the default destination."""
        sound = declared(mixer, destination)
        if sound is None or self._wire == "messages" or not self._is_live:
            return False
        assert self._session is not None  # noqa: S101 - it is live
        await self._session.configure(mixer=sound)
        return True

    async def read_audio_frame(self) -> AsyncGenerator[Any, None]:
        """What the server says, at the pipeline's rate, until the connection ends.

        In frames of 20 to 100 ms, as it comes. Waits for `open_media`. Nothing with a serializer
        that runs here: `on_message` has it all.
        """
        await self._media_open.wait()
        session, rates = self._session, self._rates
        if session is None or rates is None or self._wire == "messages":
            return
        hz, channels = rates[0], self._params.audio_in_channels
        async for pcm, pts in hear(session, hz, channels, most_ms=MOST_MS):
            frame = self.frames.InputAudioRawFrame(pcm, hz, channels)
            frame.pts = pts
            yield frame
