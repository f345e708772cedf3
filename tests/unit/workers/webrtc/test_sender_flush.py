"""A flush that fades: one more packet, exact to the sample, and nothing new is late or lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fakes.audio import level_db, pitch_hz, tone
from tests.fakes.rings import rings
from tests.fakes.wire import FRAME, Wire, write
from workers.session import Session as WorkerSession
from workers.webrtc.frame_encoder import OPUS_SILENCE
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from ipc.audio_ring import BotRing
    from ipc.clock import ManualClock
    from tests.fakes.audio import Samples

# What Opus' low delay adds before the samples of a packet are heard.
LOOKAHEAD = 120
MOMENTS = pytest.mark.parametrize("encoded_ahead", [False, True], ids=["before", "after encode"])


@pytest.fixture
def wire(clock: ManualClock) -> Wire:
    return Wire(Sender(clock), clock)


def speak_and_flush(wire: Wire, fade: int, *, encoded_ahead: bool, queued: int = 20) -> BotRing:
    """Five frames of a tone leave, then a flush comes, before or after the next is encoded."""
    wire.sender.ring, bot = rings()
    write(bot, tone(440, queued * FRAME))
    wire.run(5)
    if encoded_ahead:
        wire.sender.encode()
    bot.flush(fade)
    if not encoded_ahead:
        wire.sender.encode()
    wire.clock.advance_ms(5)
    wire.sender.send(wire.clock.now_ns())
    wire.clock.advance_ms(15)
    return bot


def envelope(samples: Samples, step: int = 120) -> list[float]:
    whole = samples[: len(samples) // step * step].reshape(-1, step).astype(np.float64)
    return [float(level) for level in np.sqrt((whole**2).mean(axis=1))]


@MOMENTS
@pytest.mark.parametrize("fade_ms", [5, 20])
def test_the_packet_after_the_flush_fades_and_then_there_is_silence(
    wire: Wire, fade_ms: int, encoded_ahead: bool
) -> None:
    speak_and_flush(wire, fade_ms * 48, encoded_ahead=encoded_ahead)
    wire.run(10)
    heard = wire.heard()
    loud = float(np.sqrt((heard[2 * FRAME : 4 * FRAME].astype(np.float64) ** 2).mean()))
    start = 5 * FRAME + LOOKAHEAD
    fading = envelope(heard[start : start + fade_ms * 48])
    assert fading[0] > 0.5 * loud, "it does not begin with a cut"
    assert max(fading) < 1.3 * loud, "no click"
    assert fading[-1] < 0.4 * loud
    assert level_db(heard[start + fade_ms * 48 + LOOKAHEAD : 6 * FRAME + 2 * LOOKAHEAD]) < -35
    assert level_db(heard[6 * FRAME + 2 * LOOKAHEAD :]) < -60


@MOMENTS
def test_the_faded_samples_count_as_sent(wire: Wire, encoded_ahead: bool) -> None:
    bot = speak_and_flush(wire, 480, encoded_ahead=encoded_ahead)
    assert bot.playback().cursor == 5 * FRAME + 480
    assert bot.flushed() == (20 * FRAME, 5 * FRAME + 480)
    assert bot.room() == bot.speaker.capacity


@MOMENTS
def test_a_fade_ends_where_the_flush_does(wire: Wire, encoded_ahead: bool) -> None:
    bot = speak_and_flush(wire, FRAME, encoded_ahead=encoded_ahead, queued=6)
    assert bot.flushed() == (6 * FRAME, 6 * FRAME)


@MOMENTS
def test_new_audio_follows_the_fading_packet_from_its_first_sample(
    wire: Wire, encoded_ahead: bool
) -> None:
    wire.sender.ring, bot = rings()
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    if encoded_ahead:
        wire.sender.encode()
    flush_to = bot.flush(FRAME)
    write(bot, tone(900, 10 * FRAME))
    if not encoded_ahead:
        wire.sender.encode()
    wire.sender.send(wire.clock.now_ns())
    wire.heard()
    wire.run(1)
    assert bot.playback().cursor == flush_to + FRAME, "the very next packet"
    wire.run(9)
    assert bot.playback().cursor == flush_to + 10 * FRAME
    assert abs(pitch_hz(wire.heard()[FRAME:]) - 900) < 9


def test_a_second_flush_does_not_cut_the_packet_that_fades(wire: Wire) -> None:
    wire.sender.ring, bot = rings()
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    bot.flush(FRAME)
    wire.sender.encode()
    write(bot, tone(900, FRAME))
    last = bot.flush()
    wire.sender.send(wire.clock.now_ns())
    assert bot.flushed() == (last, 6 * FRAME)
    wire.run(1)
    assert wire.packets[-1].payload == OPUS_SILENCE


def test_what_was_not_begun_does_not_fade(wire: Wire) -> None:
    wire.sender.ring, bot = rings()
    write(bot, tone(440, 20 * FRAME))
    flush_to = bot.flush(FRAME)
    wire.run(2)
    assert bot.flushed() == (flush_to, 0)
    assert {packet.payload for packet in wire.packets} == {OPUS_SILENCE}


def test_a_fade_that_a_bot_made_up_is_20_ms(wire: Wire) -> None:
    bot = speak_and_flush(wire, 2**63, encoded_ahead=False)
    assert bot.flushed().sent == 6 * FRAME


def test_a_flush_that_somebody_else_applied_still_replaces_the_ready_packet(wire: Wire) -> None:
    wire.sender.ring, bot = rings()
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    wire.sender.encode()
    bot.flush()
    assert wire.sender.ring is not None
    wire.sender.ring.apply_flush()
    wire.sender.send(wire.clock.now_ns())
    assert wire.packets[-1].payload == OPUS_SILENCE
    assert bot.playback().cursor == bot.flushed().sent == 5 * FRAME


def test_g711_fades_too(clock: ManualClock) -> None:
    wire = Wire(Sender(clock), clock, "PCMU")
    wire.sender.ring, bot = rings(8_000)
    write(bot, tone(440, 20 * 160, hz=8_000))
    wire.run(5)
    bot.flush(80)
    wire.run(2)
    assert bot.flushed().sent == 5 * 160 + 80
    fading, silence = (packet.payload for packet in wire.packets[-2:])
    assert set(fading[80:]) == {0xFF}
    assert len(set(fading[:70])) > 20
    assert set(silence) == {0xFF}


def test_a_flush_between_two_packets_still_fades(wire: Wire, clock: ManualClock) -> None:
    no_mux: Any = None  # there is no network
    session = WorkerSession("s_1", clock, lambda _message: None, no_mux)
    leg: Any = SimpleNamespace(sender=wire.sender)  # a stand-in
    session.leg = leg
    worker, bot = rings()
    stand_in: Any = SimpleNamespace(ring=worker, left=lambda *_sent, flushed: None)
    session.rings = stand_in
    wire.sender.ring = worker
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    bot.flush(480)
    session.settle(clock.now_ns())
    wire.run(1)
    assert bot.flushed().sent == 5 * FRAME + 480
