"""A caller's WebRTC connection as the documented API has it, on a session that the bot placed.

The peer connection itself lives in a media worker; this object is how a bot's process asks for
it, answers offers and hears of it. Events are told one after the other, in the order in which
they happened, and `connected` not before somebody has called `connect`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from engine.transports.home import Home
from engine.transports.smallwebrtc.announcer import Announcer
from engine.transports.smallwebrtc.candidates import as_candidate
from engine.transports.smallwebrtc.ice_servers import IceServer, as_servers, for_engine
from engine.transports.smallwebrtc.media_tracks import CallerTrack, TrackPlayer
from ipc.errors import BackbeatError, SdpRejected, SessionClosed, StateError

if TYPE_CHECKING:
    from engine.sdk import Session

__all__ = ["IceServer", "SmallWebRTCConnection"]

log = logging.getLogger(__name__)

MICROPHONE, CAMERA, SCREEN = range(3)
MAX_WAITING = 256
RENEGOTIATION_S = 2.0
DEFAULT_HZ = 48_000
# As long as an engine waits for a caller at most: a day.
MAX_CONNECT_S = 86_400
STATES = ("new", "connecting", "connected", "disconnected", "closed", "failed")
EVENTS = ("app-message", "track-started", "track-ended", "track-status", *STATES)
WORKER_FAULTS = {"worker_died", "worker_stalled"}
# Reasons for which a session ends without ever having had a caller.
FAILURES = {"ice_failed", "offer_failed", "no_worker"} | WORKER_FAULTS


class SmallWebRTCConnection(Announcer):
    """One caller, from the first offer to the end.

    `initialize` answers the offer, `connect` lets the events begin, `disconnect` ends the call.
    Events: `app-message(connection, message)`, `track-started` and `track-ended(connection,
    track)`, `track-status(connection, receiver_index, enabled)`, and the states `new`,
    `connecting`, `connected`, `disconnected`, `closed`, `failed`, each with the connection.

    A caller who comes back within the 5 s before it counts as lost is not announced again, nor
    one who comes back because a media worker died; after that `disconnected` was told, and
    `connected` is told anew.
    """

    EVENTS = EVENTS
    SENT = frozenset({"app-message", "track-status"})

    def __init__(
        self,
        ice_servers: list[str] | list[IceServer] | None = None,
        connection_timeout_secs: int = 60,
    ) -> None:
        super().__init__()
        self.ice_servers = as_servers(ice_servers)
        self.connection_timeout_secs = connection_timeout_secs
        self._session: Session | None = None
        self._home: Home | None = None
        self._answer: dict[str, str] | None = None
        self._state = "new"
        self._invoked = False
        self._announced = False
        self._media_open = False
        self._opening = asyncio.Lock()
        self._enabled = {MICROPHONE: True, CAMERA: True, SCREEN: True}
        self._microphone: CallerTrack | None = None
        self._player: TrackPlayer | None = None
        self._renegotiating: asyncio.TimerHandle | None = None
        self._messages: deque[Any] = deque(maxlen=MAX_WAITING)
        # Messages that the engine did not take since it last took one.
        self._refused = 0

    @classmethod
    def of(cls, session: Session) -> Self:
        """The connection of a session that an engine has offered to this bot."""
        connection = cls()
        connection._media_open = True
        connection._adopt(session)
        connection._state = "connected" if session.connected else "connecting"
        return connection

    # -- what it is ---------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The session of the bot SDK beneath. Raises StateError before `initialize`."""
        if self._session is None:
            raise StateError(
                "the connection has no caller yet: await initialize(sdp, type) first",
                code="not_initialized",
            )
        return self._session

    @property
    def pc(self) -> Any:
        """There is none in this process. Raises StateError(`no_peer_connection`)."""
        raise StateError(
            "the peer connection lives in a media worker: use replace_audio_track, "
            "send_app_message, ask_to_renegotiate, or `session` for statistics and settings",
            code="no_peer_connection",
        )

    @property
    def pc_id(self) -> str:
        """By which the caller names this connection; the object's name before `initialize`."""
        return self._session.pc_id if self._session is not None else self.name

    def is_connected(self) -> bool:
        """Whether `connect` was called and the caller's media flows."""
        return self._invoked and self._state == "connected"

    # -- signaling ----------------------------------------------------------------------------

    async def initialize(self, sdp: str, type: str) -> None:
        """Answer the caller's first offer; `get_answer` has the answer.

        Raises NegotiationError, LimitError, NoWorker, BotError(`no_engine`), and StateError
        when it was done before.
        """
        if self._session is not None or self._home is not None:
            raise StateError("the connection was initialized before", code="initialized")
        _check_offer(type)
        self._home = await Home.acquire()
        try:
            bot = await self._home.bot()
            placed = await bot.open_webrtc(
                sdp,
                ice_servers=[for_engine(server) for server in self.ice_servers],
                connect_s=min(self.connection_timeout_secs, MAX_CONNECT_S),
            )
        except BaseException:
            self._give_home_back()
            raise
        self._adopt(placed.session)
        self._tell("new")
        self._answer = {"sdp": placed.sdp, "type": "answer", "pc_id": placed.pc_id}

    def get_answer(self) -> dict[str, str] | None:
        """The newest answer: `sdp`, `type` and `pc_id`; None before `initialize`."""
        return self._answer

    async def renegotiate(self, sdp: str, type: str, restart_pc: bool = False) -> None:
        """Answer a further offer; with `restart_pc` on a new peer connection and `pc_id`.

        Session, bot, queued speech and which tracks are on stay as they are.
        """
        _check_offer(type)
        answer, pc_id = await self.session.renegotiate(sdp, restart=restart_pc)
        self._answer = {"sdp": answer, "type": "answer", "pc_id": pc_id}
        self._begin_renegotiating()

    def ask_to_renegotiate(self) -> None:
        """Ask the caller for a new offer, unless it is about to make one."""
        if self._renegotiating is None:
            self._signal("renegotiate")
            self._begin_renegotiating()

    async def add_ice_candidate(self, candidate: Any) -> None:
        """A candidate of the caller: aiortc's, ours, a text, or None after the last one."""
        await self.session.add_candidates([as_candidate(candidate)])

    def force_transceivers_to_send_recv(self) -> None:
        """Nothing: the workers answer so that both sides may speak."""

    async def connect(self) -> None:
        """Let the events begin: `connected` when the caller is there, and what it has said."""
        if self._invoked:
            return
        await self.open_media()
        self._invoked = True
        if self._state == "connected":
            self._announce()

    async def open_media(
        self,
        *,
        mic_hz: int = DEFAULT_HZ,
        speaker_hz: int = DEFAULT_HZ,
        mic_channels: int = 1,
        speaker_channels: int = 1,
    ) -> None:
        """Have audio flow at these rates; the first call decides. What was said before is gone."""
        async with self._opening:
            if not self._media_open:
                await self.session.open_media(
                    mic_hz=mic_hz,
                    speaker_hz=speaker_hz,
                    mic_channels=mic_channels,
                    speaker_channels=speaker_channels,
                )
                self._media_open = True

    async def disconnect(self) -> None:
        """Say goodbye to the caller and end the call. Safe to call twice."""
        await self._stop_player()
        if self._session is not None and not self._session.closed:
            try:
                await self._session.close("bot_closed")
            except SessionClosed:
                pass
            except BackbeatError as error:
                log.warning("the call of %s did not end politely: %s", self, error.message)
            self._ended("bot_closed")
        self._give_home_back()

    # -- media --------------------------------------------------------------------------------

    def audio_input_track(self) -> CallerTrack | None:
        """The caller's voice; None before `initialize`."""
        if self._microphone is None and self._session is not None:
            self._microphone = CallerTrack(
                self._session, self.open_media, lambda: self._enabled[MICROPHONE]
            )
        return self._microphone

    def video_input_track(self) -> None:
        """The caller's camera: this engine carries no video yet."""
        return

    def screen_video_input_track(self) -> None:
        """The caller's screen: this engine carries no video yet."""
        return

    def replace_audio_track(self, track: Any) -> None:
        """Send what `track.recv()` gives from now on; None sends nothing.

        The track is pulled in this process, at its own pace, and played by a worker.
        """
        player, self._player = self._player, None
        if player is not None:
            player.stop()
        if track is not None:
            self._player = TrackPlayer(self.session, self.open_media, track)

    def replace_video_track(self, track: Any) -> None:
        """Nothing: this engine carries no video yet."""

    def replace_screen_video_track(self, track: Any) -> None:
        """Nothing: this engine carries no video yet."""

    def track_enabled(self, receiver_index: int) -> bool:
        """Whether the caller sends this track: 0 microphone, 1 camera, 2 screen."""
        return self._enabled.get(receiver_index, False)

    # -- messages -----------------------------------------------------------------------------

    def send_app_message(self, message: Any) -> bool:
        """Send anything that JSON can hold; it waits until the caller's channel opens.

        False, which is logged as well, when it is lost because the engine does not read just now.
        Raises ProtocolError for what cannot be sent, SessionClosed, StateError.
        """
        taken = self.session.send(message)
        if not taken and not self._refused:
            log.warning("%s: the engine does not read: messages to the caller are lost", self)
        elif taken and self._refused:
            log.warning("%s: %d messages to the caller were lost", self, self._refused)
        self._refused = 0 if taken else self._refused + 1
        return taken

    def _signal(self, kind: str) -> None:
        self.send_app_message({"type": "signalling", "message": {"type": kind}})

    # -- what the session tells ---------------------------------------------------------------

    def _adopt(self, session: Session) -> None:
        self._session = session
        session.on("peer", self._peer_changed)
        session.on("connected", self._caller_came)
        session.on("disconnected", self._caller_gone)
        session.on("closed", self._ended)
        session.on("track", self._track_changed)
        session.on("message", self._message_came)

    def _peer_changed(self, state: str) -> None:
        if state == "connecting" and self._state == "new":
            self._state = "connecting"
            self._tell("connecting")

    def _caller_came(self) -> None:
        self._state = "connected"
        if self._invoked:
            self._announce()

    def _announce(self) -> None:
        if self._announced:
            return
        self._announced = True
        self._tell("connected")
        track = self.audio_input_track()
        if track is not None and not track.announced:
            track.announced = True
            self._tell("track-started", track)
        self._flush_messages()

    def _caller_gone(self, reason: str) -> None:
        if self._state != "connected":
            return
        self._state = "disconnected"
        # A worker's death is no farewell: the caller comes back to another one, and a bot that
        # hangs up on "disconnected" would end the call. If nobody comes, "closed" tells.
        if reason not in WORKER_FAULTS:
            self._announced = False
            self._tell("disconnected")

    def _ended(self, reason: str) -> None:
        if self._state == "closed":
            return
        if self._state != "connected" and reason in FAILURES:
            self._tell("failed")
        if self._microphone is not None:
            self._tell("track-ended", self._microphone)
        self._state = "closed"
        self._tell_last("closed")
        if self._renegotiating is not None:
            self._renegotiating.cancel()
            self._renegotiating = None
        if self._player is not None:
            self._player.stop()
        self._give_home_back()

    def _track_changed(self, receiver_index: int, enabled: bool) -> None:
        self._enabled[receiver_index] = enabled
        self._tell("track-status", receiver_index, enabled)

    def _message_came(self, message: Any) -> None:
        self._messages.append(message)
        if self._announced:
            self._flush_messages()

    def _flush_messages(self) -> None:
        while self._messages:
            self._tell("app-message", self._messages.popleft())

    # -- ends ---------------------------------------------------------------------------------

    def _begin_renegotiating(self) -> None:
        if self._renegotiating is not None:
            self._renegotiating.cancel()
        loop = asyncio.get_running_loop()
        self._renegotiating = loop.call_later(RENEGOTIATION_S, self._end_renegotiating)

    def _end_renegotiating(self) -> None:
        self._renegotiating = None

    async def _stop_player(self) -> None:
        player, self._player = self._player, None
        if player is not None:
            await player.end()

    def _give_home_back(self) -> None:
        home, self._home = self._home, None
        if home is not None:
            home.release()


def _check_offer(kind: str) -> None:
    if kind != "offer":
        raise SdpRejected(f"a caller sends an offer, not {kind!r}")
