"""What rings leave to those that take their place after their worker died.

For the bot's end of both, before it says that it has attached the new ones: until then no
worker touches them. The cursors of the new rings begin where those of the old ones ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipc.fence import fence
from ipc.ring_layout import MIC_READ, MIC_TAIL, MIC_WANT, MIC_WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.audio_ring import BotRing


def hear_on(ring: BotRing, old: BotRing) -> None:
    """Let the bot read in `ring`, from where it was, what it had not read of `old`.

    Both have the same shape, and the mic of `ring` begins where that of `old` ended; else
    nothing of `old` is heard.
    """
    words, end = ring._words, old.mic_written
    if words[MIC_WRITE] != end or ring.mic.capacity != old.mic.capacity:
        return
    start = max(old._words[MIC_TAIL], end - old.mic.capacity)
    at = start = max(start, old.mic_read)
    while at < end:
        count = min(end - at, old.mic.slack)
        ring.mic.put(at, old.mic.view(at, count))
        at += count
    fence()
    words[MIC_TAIL] = start
    # Not `start`: what was lost before it is still counted by the next read.
    words[MIC_READ] = ring._read = old._read
    words[MIC_WANT] = old._words[MIC_WANT]


def unsent(old: BotRing, start: int, end: int) -> Iterator[memoryview]:
    """The speech in `old` between two cursors that has not left, in pieces of up to 20 ms."""
    at = max(start, old.speaker_sent)
    end = min(end, old.speaker_written)
    while at < end:
        count = min(end - at, old.speaker.slack)
        yield old.speaker.view(at, count)
        at += count
