"""What a session tells the engine: how its caller's leg is, and what the caller says.

Each event carries the mic sample at which it happened, so that audio and events keep their order.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from ipc.errors import ProtocolError
from ipc.messages import AppMessage, LegState, Message, RawMessage, TrackStatus
from ipc.wire import check_data
from workers.webrtc.data_channel import Unread

if TYPE_CHECKING:
    from workers.leg import Leg
    from workers.webrtc.peer import State

log = logging.getLogger(__name__)


class Report(Protocol):
    """How a session speaks to the engine."""

    def __call__(self, message: Message) -> object:
        """Send a notification."""
        ...


class Reports:
    """The reports of one session."""

    def __init__(self, session_id: str, report: Report) -> None:
        self._id = session_id
        self._report = report

    def leg_changed(self, leg: Leg, state: State) -> None:
        """The caller's connection of the moment is in another state."""
        reasons: dict[str, str] = {"lost": "lost", "closed": "caller_left"}
        self._report(
            LegState(
                session=self._id,
                state=state,
                reason=leg.fault or reasons.get(state, ""),
                close_code=leg.close_code,
                close_reason=leg.close_reason,
            )
        )

    def caller_silent(self) -> None:
        """Nothing has come for a while; the operator alone hears of it."""
        log.warning("nothing has come from the caller of %s for 2 s", self._id)

    def caller_said(self, data: Any, cursor: int) -> bool:
        """An app message came at a mic cursor; False when it is none."""
        unread = isinstance(data, Unread)
        if unread:
            data = str(data)
        try:
            check_data(data)
        except ProtocolError:
            return False
        self._report(AppMessage(session=self._id, data=data, cursor=cursor, unread=unread))
        return True

    def server_said(self, data: str | bytes, cursor: int) -> None:
        """A message of a server that we dialled, as it came."""
        text = isinstance(data, str)
        raw = data.encode() if isinstance(data, str) else data
        self._report(RawMessage(session=self._id, data=raw, text=text, cursor=cursor))

    def track_changed(self, receiver_index: int, enabled: bool, cursor: int) -> None:
        """The caller has muted a track, or not any more, at a mic cursor."""
        self._report(
            TrackStatus(
                session=self._id,
                receiver_index=receiver_index,
                enabled=enabled,
                cursor=cursor,
            )
        )
