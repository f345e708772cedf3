"""What a transport for callers over WebRTC is made of, whichever framework its pipeline is of.

Mixins: for the input what concerns video, for the transport its ends, methods and events. Video
is not carried yet, so images are asked for in vain.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from engine.transports import frames
from engine.transports.base.client_end import InputEnd
from engine.transports.smallwebrtc.client import (
    SOURCES,
    SmallWebRTCCallbacks,
    SmallWebRTCClient,
    check_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

log = logging.getLogger(__name__)

NO_VIDEO = "no video: the caller shows nothing that this engine carries"
_Base: Any = object


class CallerInput(InputEnd):
    """Audio and messages of one caller. Images of it are asked for in vain, and told so."""

    def _supports_video_in_source(self, video_source: str) -> bool:
        return video_source in SOURCES[1:]

    async def process_frame(self, frame: Any, direction: Any) -> None:
        """As every input, and answer requests for images."""
        await super().process_frame(frame, direction)
        if isinstance(frame, self.frames.UserImageRequestFrame):
            await self.request_participant_image(frame)

    async def request_participant_image(self, frame: Any) -> None:
        """Ask for an image of the caller: as there is no video, the answer says so at once."""
        await self._answer_image_requests([frame], NO_VIDEO)

    async def stop_video(self, video_source: str) -> None:
        """The caller shows nothing there any more. ValueError for what is no source."""
        check_source(video_source)

    async def remove_all_video(self) -> None:
        """The caller shows nothing any more."""

    async def capture_participant_media(
        self, source: str = "camera", framerate: int | None = None
    ) -> None:
        """Pass on a source of the caller: "microphone", "camera" or "screenVideo".

        The microphone is passed on anyway where `audio_in_enabled`; video is not carried yet,
        which is logged. Raises ValueError for another source.
        """
        if source == SOURCES[0]:
            if self._attachment.held:
                self._read()
            return
        check_source(source)
        log.warning("%s: %s is not captured: %s", self, source, NO_VIDEO)


class CallerTransport(_Base):  # type: ignore[misc]  # see `_Base`
    """The two ends of a pipeline for one caller, however it came. Subclasses name the ends."""

    frames: Any = frames
    input_class: Callable[..., Any]
    output_class: Callable[..., Any]
    # What handlers can be added for.
    events: tuple[str, ...] = ("on_client_connected", "on_client_disconnected")

    def __init__(
        self, connection: SmallWebRTCConnection, params: Any, input_name: Any, output_name: Any
    ) -> None:
        super().__init__(input_name=input_name, output_name=output_name)
        self._params = params
        callbacks = SmallWebRTCCallbacks(
            on_app_message=self._on_app_message,
            on_client_connected=self._on_client_connected,
            on_client_disconnected=self._on_client_disconnected,
            on_track_status=self._on_track_status,
        )
        self._client = self._make_client(connection, callbacks)
        self._input: Any = None
        self._output: Any = None
        for event in self.events:
            self._register_event_handler(event)

    def _make_client(
        self, connection: SmallWebRTCConnection, callbacks: SmallWebRTCCallbacks
    ) -> SmallWebRTCClient:
        return SmallWebRTCClient(connection, callbacks)

    def input(self) -> Any:
        """The end at which the caller's audio and messages enter the pipeline."""
        if self._input is None:
            self._input = self.input_class(self._client, self._params, name=self._input_name)
        return self._input

    def output(self) -> Any:
        """The end that sends the caller audio and messages."""
        if self._output is None:
            self._output = self.output_class(self._client, self._params, name=self._output_name)
        return self._output

    async def send_image(self, frame: Any) -> None:
        """Show an image as if it had come through the pipeline, if there is an output."""
        if self._output is not None:
            await self._output.queue_frame(frame)

    async def send_audio(self, frame: Any) -> None:
        """Send audio as if it had come through the pipeline, if there is an output."""
        if self._output is not None:
            await self._output.queue_frame(frame)

    # -- what the client tells --------------------------------------------------------------

    async def _on_app_message(self, message: Any, sender: str) -> None:
        if self._input is not None:
            await self._input.push_app_message(message)

    async def _on_client_connected(self, client: Any) -> None:
        await self._call_event_handler("on_client_connected", client)
        if self._input is not None:
            await self._input.push_frame(self.frames.ClientConnectedFrame())

    async def _on_client_disconnected(self, client: Any) -> None:
        await self._call_event_handler("on_client_disconnected", client)

    async def _on_track_status(self, source: str, enabled: bool) -> None:
        """A source of the caller's went on or off."""


class WebRTCCallerTransport(CallerTransport):
    """The two ends of a pipeline for one caller over WebRTC, who may be asked for video.

    Events: on_client_connected(transport, client), on_client_disconnected(transport, client),
    on_client_message(transport, message, client), and on_app_message(transport, message, sender)
    for the same messages, where `client` is the connection and `sender` its `pc_id`. A caller
    that was away for less than 5 s is not announced again.
    """

    events = (*CallerTransport.events, "on_app_message", "on_client_message")

    def __init__(
        self,
        webrtc_connection: SmallWebRTCConnection,
        params: Any,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(webrtc_connection, params, input_name, output_name)

    def get_client_id(self, client: Any) -> str:
        """The `pc_id` of a connection that an event handler got."""
        return str(client.pc_id)

    async def capture_participant_video(
        self,
        participant_id: str | None = None,
        framerate: int | None = 30,
        video_source: str = "camera",
        *,
        on_request_only: bool = False,
    ) -> None:
        """Pass on video of the caller: "camera" or "screenVideo".

        Without a participant, or with a source in its place, `capture_participant_video("camera")`,
        it is the older form and means every frame. Raises ValueError for another source.
        """
        if participant_id is None:
            framerate = None
        elif participant_id in SOURCES[1:]:
            video_source, framerate = participant_id, None
        if self._input is not None:
            await self._input.capture_participant_media(
                video_source, 0 if on_request_only else framerate
            )

    async def capture_participant_audio(self, audio_source: str = "microphone") -> None:
        """Pass on audio of the caller. ValueError for anything but "microphone"."""
        if audio_source != SOURCES[0]:
            raise ValueError(f"audio comes from the microphone, not from {audio_source!r}")
        if self._input is not None:
            await self._input.capture_participant_media(audio_source)

    async def _on_app_message(self, message: Any, sender: str) -> None:
        await super()._on_app_message(message, sender)
        await self._call_event_handler("on_app_message", message, sender)
        await self._call_event_handler("on_client_message", message, self._client.connection)

    async def _on_client_connected(self, client: Any) -> None:
        if self._input is not None:
            for source, wanted in self._params.video_in_sources.items():
                if source in SOURCES[1:]:
                    framerate = 0 if wanted.on_request_only else wanted.framerate
                    await self._input.capture_participant_media(source, framerate)
        await super()._on_client_connected(client)

    async def _on_client_disconnected(self, client: Any) -> None:
        if self._input is not None:
            await self._input.remove_all_video()
        await super()._on_client_disconnected(client)

    async def _on_track_status(self, source: str, enabled: bool) -> None:
        if self._input is not None and not enabled and source in SOURCES[1:]:
            await self._input.stop_video(source)
