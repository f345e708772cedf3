"""A Pipecat pipeline's transport to one caller, whose media a worker of the engine carries.

Constructors, methods and events are those of Pipecat's classes of the same names; neither they nor
aiortc are loaded for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipecat.frames.frames import ClientConnectedFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_transport import BaseTransport, TransportParams

from engine.integrations.pipecat.client import PipecatClient, SmallWebRTCCallbacks
from engine.integrations.pipecat.input import InputTransport, SmallWebRTCInputTransport
from engine.integrations.pipecat.output import OutputTransport, SmallWebRTCOutputTransport
from engine.transports.smallwebrtc.client import SOURCES

if TYPE_CHECKING:
    from pipecat.frames.frames import OutputAudioRawFrame, OutputImageRawFrame, SpriteFrame

    from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

__all__ = [
    "CallerTransport",
    "SmallWebRTCInputTransport",
    "SmallWebRTCOutputTransport",
    "SmallWebRTCTransport",
]


class CallerTransport(BaseTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """The two ends of a pipeline for one caller, however it came. Subclasses tell of it."""

    input_class: type[InputTransport] = InputTransport
    output_class: type[OutputTransport] = OutputTransport
    # What handlers can be added for.
    events: tuple[str, ...] = ("on_client_connected", "on_client_disconnected")

    def __init__(
        self,
        connection: SmallWebRTCConnection,
        params: TransportParams,
        input_name: str | None,
        output_name: str | None,
    ) -> None:
        super().__init__(input_name=input_name, output_name=output_name)
        self._params = params
        self._client = PipecatClient(
            connection,
            SmallWebRTCCallbacks(
                on_app_message=self._on_app_message,
                on_client_connected=self._on_client_connected,
                on_client_disconnected=self._on_client_disconnected,
                on_track_status=self._on_track_status,
            ),
            params,
        )
        self._input: InputTransport | None = None
        self._output: OutputTransport | None = None
        for event in self.events:
            self._register_event_handler(event)

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

    async def send_image(self, frame: OutputImageRawFrame | SpriteFrame) -> None:
        """Show an image as if it had come through the pipeline, if there is an output."""
        if self._output is not None:
            await self._output.queue_frame(frame, FrameDirection.DOWNSTREAM)

    async def send_audio(self, frame: OutputAudioRawFrame) -> None:
        """Send audio as if it had come through the pipeline, if there is an output."""
        if self._output is not None:
            await self._output.queue_frame(frame, FrameDirection.DOWNSTREAM)

    # -- what the client tells --------------------------------------------------------------

    async def _on_app_message(self, message: Any, sender: str) -> None:
        if self._input is not None:
            await self._input.push_app_message(message)

    async def _on_client_connected(self, connection: Any) -> None:
        await self._call_event_handler("on_client_connected", connection)
        if self._input is not None:
            await self._input.push_frame(ClientConnectedFrame())

    async def _on_client_disconnected(self, connection: Any) -> None:
        await self._call_event_handler("on_client_disconnected", connection)

    async def _on_track_status(self, source: str, enabled: bool) -> None:
        """A source of the caller's went on or off."""


class SmallWebRTCTransport(CallerTransport):
    """The two ends of a pipeline for one caller.

    Events: on_client_connected(transport, client), on_client_disconnected(transport, client),
    on_app_message(transport, message, sender), and on_client_message(transport, message, client)
    for the same messages, where `client` is the connection and `sender` its `pc_id`. A caller
    that was away for less than 5 s is not announced again.
    """

    input_class = SmallWebRTCInputTransport
    output_class = SmallWebRTCOutputTransport
    events = (*CallerTransport.events, "on_app_message", "on_client_message")
    _input: SmallWebRTCInputTransport | None

    def __init__(
        self,
        webrtc_connection: SmallWebRTCConnection,
        params: TransportParams,
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

        A source as the first argument, `capture_participant_video("screenVideo")`, is the older
        form and means every frame. Raises ValueError for another source.
        """
        if participant_id in SOURCES[1:]:
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

    # -- what the client tells --------------------------------------------------------------

    async def _on_app_message(self, message: Any, sender: str) -> None:
        await super()._on_app_message(message, sender)
        await self._call_event_handler("on_app_message", message, sender)
        await self._call_event_handler("on_client_message", message, self._client.connection)

    async def _on_client_connected(self, connection: Any) -> None:
        if self._input is not None:
            for source, wanted in self._params.video_in_sources.items():
                if source in SOURCES[1:]:
                    framerate = 0 if wanted.on_request_only else wanted.framerate
                    await self._input.capture_participant_media(source, framerate)
        await super()._on_client_connected(connection)

    async def _on_client_disconnected(self, connection: Any) -> None:
        if self._input is not None:
            await self._input.remove_all_video()
        await super()._on_client_disconnected(connection)

    async def _on_track_status(self, source: str, enabled: bool) -> None:
        if self._input is not None and not enabled and source in SOURCES[1:]:
            await self._input.stop_video(source)
