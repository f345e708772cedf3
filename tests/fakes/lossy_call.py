"""A call of a real client through a link that becomes bad and good again: what was heard of it.

`run` leads a client through the phases before, lossy and after; clients (`far_browser`,
`far_werift`) tell what was said and heard by the clock of this machine. Speech without pauses is
said, so that a silence is always a hole.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks import echo, speech
from tests.fakes.network import Faults

if TYPE_CHECKING:
    from tests.fakes.tun_network import TunNetwork

Samples = NDArray[np.int16]
Times = NDArray[np.int64]
HZ = 48_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
AUDIBLE_DB = -55.0
GAP_MS = 60.0
# Delays are looked for at 8 kHz, in blocks of 0.4 s, up to 1.5 s back.
THIN = 6
BLOCK = HZ // THIN * 2 // 5
LOOK_BACK_NS = 1_500 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Sound:
    """Chunks of samples at 48 kHz, mono, all of one length, and when each was there (ns)."""

    chunks: Samples
    """(chunks, samples)"""
    at_ns: Times

    def within(self, from_ns: int, to_ns: int) -> Sound:
        """The chunks of a span of time."""
        inside = (self.at_ns >= from_ns) & (self.at_ns < to_ns)
        return Sound(self.chunks[inside], self.at_ns[inside])

    @property
    def chunk_ms(self) -> float:
        """How long a chunk is."""
        return float(self.chunks.shape[1] * 1000 / HZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long the phases are, in s."""

    warm_s: float = 2.0
    before_s: float = 3.0
    settle_s: float = 6.0
    """After the link became bad: until reports of it have come and redundancy is up."""
    redundant_s: float = 0.0
    """So long at most is waited for RED to come in, beyond that."""
    lossy_s: float = 10.0
    heal_s: float = 2.0
    after_s: float = 4.0
    """0: the call ends with the loss."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a client saw. Shares are of the lossy phase, 0 to 1."""

    returned: float
    """Of the frames due: those that left the server, by the sequence numbers at the client."""
    received: float
    """Of the frames due: packets that came."""
    made_up: float
    """Of what was played or due: samples that the client had to make up."""
    silent: float
    """Of the time: without sound."""
    gaps: int
    """Times without sound that were longer than 60 ms."""
    longest_gap_ms: float
    delay_before_ms: float | None
    """From the client's mouth to its ear, the median; None when nothing was found again."""
    delay_lossy_ms: float | None
    delay_after_ms: float | None
    red_to_client: bool
    red_to_server: bool
    still: float = 0.0
    """Of the lossy phase: in which the client or the server's worker did not run, if that is
    known. Nothing is due then."""
    server: dict[str, Any] = field(default_factory=dict)
    """The server's own statistics at the end, when it has any."""
    given_up_s: float = 0.0
    """Of the call: for so long the server's worker did not run, if it says so."""

    @property
    def added_delay_ms(self) -> float | None:
        """What the loss has left behind."""
        if self.delay_after_ms is None or self.delay_before_ms is None:
            return None
        return self.delay_after_ms - self.delay_before_ms

    def server_says(self, name: str) -> Any:
        """A field of the server's statistics, whichever record has it; None: none does."""
        found = [record[name] for record in self.server.values() if name in record]
        return found[0] if found else None


class Client(Protocol):
    """A client in namespace 0 that calls a server in namespace 1."""

    async def call(self, url: str) -> None:
        """Connect and begin to speak."""

    async def mark(self) -> object:
        """Counters of this moment."""

    async def redundant(self, quiet: list[Any]) -> bool:
        """Whether RED comes in; `quiet` are the marks of the phase before."""

    async def end(self, spans: Spans, marks: list[Any]) -> Seen:
        """Hang up and tell; `marks`: begin and end of the phase before, and of the lossy one."""


@dataclass(frozen=True, slots=True)
class Spans:
    """From and to of each phase (CLOCK_MONOTONIC, ns)."""

    before: tuple[int, int]
    lossy: tuple[int, int]
    after: tuple[int, int]

    @property
    def lossy_s(self) -> float:
        """Length of the lossy phase."""
        return (self.lossy[1] - self.lossy[0]) / NS_PER_S


async def run(link: TunNetwork, client: Client, url: str, faults: Faults, plan: Plan) -> Seen:
    """One call. The link is good until the call stands, and good again in the end."""
    await client.call(url)
    await asyncio.sleep(plan.warm_s)
    marks = [await client.mark()]
    before = await _span(plan.before_s)
    marks.append(await client.mark())
    link.impair(faults)
    await asyncio.sleep(plan.settle_s)
    deadline = time.monotonic() + plan.redundant_s
    while time.monotonic() < deadline and not await client.redundant(marks):
        pass
    marks.append(await client.mark())
    lossy = await _span(plan.lossy_s)
    marks.append(await client.mark())
    link.impair(Faults())
    after = (0, 0)
    if plan.after_s:
        await asyncio.sleep(plan.heal_s)
        after = await _span(plan.after_s)
    return await client.end(Spans(before, lossy, after), marks)


async def _span(seconds: float) -> tuple[int, int]:
    began = time.monotonic_ns()
    await asyncio.sleep(seconds)
    return began, time.monotonic_ns()


# -- judgement ----------------------------------------------------------------------------------


def silences_ms(heard: Sound, from_ns: int, to_ns: int) -> tuple[float, list[float]]:
    """The share of a span without sound, and how long each silence over 60 ms was."""
    inside = heard.within(from_ns, to_ns)
    chunk_ns = round(heard.chunk_ms * NS_PER_MS)
    levels = speech.frames_db(inside.chunks.reshape(-1), inside.chunks.shape[1])
    loud = inside.at_ns[levels > AUDIBLE_DB]
    share = 1 - min(1.0, len(loud) * chunk_ns / (to_ns - from_ns))
    edges = np.concatenate(([from_ns - chunk_ns], np.sort(loud), [to_ns]))
    silent = (np.diff(edges) - chunk_ns) / NS_PER_MS
    return share, [float(ms) for ms in silent if ms > GAP_MS]


def delay_ms(heard: Sound, said: Sound, from_ns: int, to_ns: int) -> float | None:
    """How long what is heard in a span had been said before: the median of its blocks."""
    near = said.within(from_ns - LOOK_BACK_NS, to_ns)
    spoken, spoken_ns = _thinned(near)
    sound, sound_ns = _thinned(heard.within(from_ns, to_ns))
    found = []
    for at in range(0, len(sound) - BLOCK, BLOCK):
        came_ns = sound_ns[at]
        first = int(np.searchsorted(spoken_ns, came_ns - LOOK_BACK_NS))
        last = int(np.searchsorted(spoken_ns, came_ns)) + BLOCK
        place = echo.find(sound[at : at + BLOCK], spoken[first:last])
        if place is not None:
            found.append((came_ns - spoken_ns[first + place]) / NS_PER_MS)
    return float(np.median(found)) if found else None


def _thinned(sound: Sound) -> tuple[NDArray[np.float64], Times]:
    """Samples at 8 kHz and the time of each; a mean of six is filter enough to find speech."""
    count, size = sound.chunks.shape
    thin = sound.chunks.reshape(count, size // THIN, THIN).astype(np.float64).mean(axis=2)
    steps = np.arange(size // THIN) * (NS_PER_S * THIN // HZ)
    return thin.reshape(-1), (sound.at_ns[:, None] + steps).reshape(-1)
