"""What a session uses of the caller's leg, WebRTC or WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ipc.audio_ring import WorkerRing
    from ipc.codec import Codec
    from workers.audio.mixer import Mixer


class LegSender(Protocol):
    """From the speaker ring to the caller."""

    ring: WorkerRing | None
    mixer: Mixer | None

    @property
    def sending(self) -> bool:
        """Whether packets leave now: it then applies flushes itself."""
        ...

    def configure(self, codec: Codec) -> None:
        """Encode like this from now on."""
        ...

    def encode(self) -> None:
        """A slot ahead."""
        ...

    def send(self, now_ns: int) -> None:
        """On the beat."""
        ...

    def miss(self, frames: int) -> None:
        """So many beats were given up."""
        ...


class LegReceiver(Protocol):
    """From the caller into the mic ring."""

    ring: WorkerRing | None


class LegMessages(Protocol):
    """App messages."""

    malformed: int

    def send(self, data: Any) -> None:
        """Send one. Raises TypeError or ValueError for what cannot be sent."""
        ...

    def say_goodbye(self, *, in_haste: bool = False) -> None:
        """Tell the caller that the session ends; `in_haste`, because the worker does, too."""
        ...


class Leg(Protocol):
    """A caller's connection. `close` is idempotent."""

    # Why it was closed from our side, or how a WebSocket ended.
    fault: str
    close_code: int
    close_reason: str

    @property
    def sender(self) -> LegSender:
        """Sends."""
        ...

    @property
    def receiver(self) -> LegReceiver:
        """Receives."""
        ...

    @property
    def data(self) -> LegMessages:
        """Messages."""
        ...

    async def close(self) -> None:
        """End it politely."""
        ...
