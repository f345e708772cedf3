"""Rings in private memory, both ends in one process."""

from __future__ import annotations

from ipc.audio_ring import BotRing, RingSpec, WorkerRing, size_bytes


def rings(hz: int = 48_000, channels: int = 1) -> tuple[WorkerRing, BotRing]:
    """The worker's and the bot's end of rings of that rate."""
    spec = RingSpec(
        key=bytes(16),
        epoch=1,
        mic_hz=hz,
        speaker_hz=hz,
        mic_channels=channels,
        speaker_channels=channels,
    )
    buffer = memoryview(bytearray(size_bytes(spec)))
    return WorkerRing.format(buffer, spec, 1), BotRing(buffer)
