"""One conversation as the engine knows it, and the table of its states.

Data only: `engine.sessions` decides what becomes of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from engine.supervisor import WorkerHandle, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.bots import BotHandle
    from ipc.ice_server import IceServer
    from ipc.messages import Message, SendMessage, TrackStatus
    from ipc.websocket import Websocket

MAX_KEPT = 256
MAX_UNSENT = 50


class State(Enum):
    """Where a session is in its life."""

    NEW = "new"
    CONNECTING = "connecting"
    LIVE = "live"
    INTERRUPTED = "interrupted"
    CLOSING = "closing"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.CONNECTING, State.CLOSING}),
    State.CONNECTING: frozenset({State.LIVE, State.CLOSING}),
    State.LIVE: frozenset({State.INTERRUPTED, State.CLOSING}),
    State.INTERRUPTED: frozenset({State.LIVE, State.CLOSING}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


@dataclass(eq=False)
class Session:
    """One conversation. Only `Sessions` and its parts change it."""

    id: str
    pc_id: str
    bot_name: str
    worker: WorkerHandle
    request_data: Any
    ice_servers: list[IceServer] = field(default_factory=list)
    connect_s: float = 30.0
    # Placed by its bot, which does the signaling and counts it for no capacity.
    placed: bool = False
    # How its caller comes.
    transport: Literal["webrtc", "websocket"] = "webrtc"
    # The server that is its caller, if it was dialled.
    websocket: Websocket | None = None
    state: State = State.NEW
    bot: BotHandle | None = None
    # Whether the bot is told what happens, and whether it has rings.
    listening: bool = False
    attached: bool = False
    was_attached: bool = False
    # Its worker is gone and its bot has rings that nobody serves.
    stranded: bool = False
    # Its worker has given it away, and no other has it yet.
    homeless: bool = False
    leaving: str = ""
    epoch: int = 0
    segment: str = ""
    leg: str = ""
    was_connected: bool = False
    reason: str = ""
    kept: deque[Message] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    kept_lost: int = 0
    # What the bot said to a caller whose worker is gone.
    unsent: deque[SendMessage] = field(default_factory=lambda: deque(maxlen=MAX_UNSENT))
    tracks: dict[int, TrackStatus] = field(default_factory=dict)
    # Earlier ids of the caller's connection that still lead here.
    former: list[str] = field(default_factory=list)
    deadline: asyncio.TimerHandle | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    # Called when it has ended.
    on_end: Callable[[], None] = lambda: None

    @property
    def over(self) -> bool:
        """Whether it ends or has ended."""
        return self.state in (State.CLOSING, State.CLOSED)

    @property
    def resume_s(self) -> float | None:
        """How long a server that went away is dialled again; None for other callers."""
        again = self.websocket.reconnect if self.websocket is not None else None
        return again.within_s + self.websocket.open_timeout_s if again and self.websocket else None

    @property
    def lost_worker(self) -> bool:
        """Whether its worker is gone, and no other has it yet."""
        return self.homeless or self.worker.state is WorkerState.GONE

    @property
    def unreached(self) -> str:
        """Why it ends when its caller never connected."""
        return "ice_failed" if self.transport == "webrtc" else "not_connected"

    def snapshot(self) -> dict[str, Any]:
        """The session for people and statistics."""
        return {
            "id": self.id,
            "state": self.state.value,
            "worker": self.worker.name,
            "bot": self.bot.name if self.bot else None,
            "epoch": self.epoch,
            "transport": self.transport,
            "leg": self.leg,
            "reason": self.reason,
        }
