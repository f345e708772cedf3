"""The PCM rings of one session: mic (worker to bot) and speaker (bot to worker).

Single producer, single consumer, no locks. Every decision rides on one aligned 8-byte store
of a cursor that never wraps; `ipc.ring_layout` has the layout, `ipc.worker_ring` and
`ipc.bot_ring` the two ends. Takes bytes, cursors and `now`; knows no clock, loop or socket.
"""

from __future__ import annotations

from ipc.bot_ring import BotRing
from ipc.ring_layout import (
    FRAME_MS,
    NEVER,
    RATES_HZ,
    AudioRing,
    Capture,
    Flushed,
    MicRead,
    Playback,
    RingSpec,
    Samples,
    size_bytes,
)
from ipc.worker_ring import WorkerRing

__all__ = [
    "FRAME_MS",
    "NEVER",
    "RATES_HZ",
    "AudioRing",
    "BotRing",
    "Capture",
    "Flushed",
    "MicRead",
    "Playback",
    "RingSpec",
    "Samples",
    "WorkerRing",
    "size_bytes",
]
