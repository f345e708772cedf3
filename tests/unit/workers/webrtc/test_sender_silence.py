"""Without `silence` no packet leaves while nothing is queued, and the RTP clock goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipc.codec import Codec
from tests.fakes.audio import level_db, tone
from tests.fakes.rings import rings
from tests.fakes.wire import FRAME, Wire, write
from workers.webrtc.frame_encoder import OPUS_SILENCE
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from ipc.clock import ManualClock
    from ipc.codec import Application


@pytest.mark.parametrize("law", ["opus", "PCMU"])
@pytest.mark.parametrize("attached", [False, True])
def test_nothing_is_sent_before_the_first_word(
    clock: ManualClock, law: str, attached: bool
) -> None:
    sender = Sender(clock, Codec(silence=False))
    wire = Wire(sender, clock, law)
    if attached:
        sender.ring, _ = rings()
    wire.run(20)
    assert wire.packets == []


def test_timestamps_go_on_and_the_first_packet_after_a_pause_is_marked(clock: ManualClock) -> None:
    sender = Sender(clock, Codec(silence=False))
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    for _ in range(2):
        write(bot, tone(440, 3 * FRAME))
        bot.end()
        wire.run(20)
    packets = wire.packets
    # Three of speech, one that fades, and one that takes the decoder to rest.
    assert [packet.marker for packet in packets] == [1, 0, 0, 0, 0] * 2
    numbers = [packet.sequence_number - packets[0].sequence_number for packet in packets]
    assert numbers == list(range(10))
    assert (packets[5].timestamp - packets[0].timestamp) % 2**32 == 20 * 960
    heard = wire.heard()
    assert level_db(heard[3 * FRAME + 240 : 4 * FRAME]) < -40
    assert abs(level_db(heard[6 * FRAME : 8 * FRAME]) + 12) < 1


@pytest.mark.parametrize("codec", [Codec(silence=False), Codec(dtx=True)])
@pytest.mark.parametrize("encoded_ahead", [False, True])
def test_a_flush_sends_one_packet_of_silence_and_then_nothing(
    clock: ManualClock, codec: Codec, encoded_ahead: bool
) -> None:
    sender = Sender(clock, codec)
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    if encoded_ahead:
        sender.encode()
    bot.flush()
    if not encoded_ahead:
        sender.encode()
    sender.send(clock.now_ns())
    wire.run(20)
    assert [packet.payload for packet in wire.packets[5:]] == [OPUS_SILENCE]


def test_the_end_of_an_utterance_within_a_frame_is_heard_once(clock: ManualClock) -> None:
    sender = Sender(clock)
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 3 * FRAME + 480))
    bot.end()
    wire.run(10)
    heard = wire.heard()
    assert level_db(heard[3 * FRAME + 480 + 360 :]) < -45


def test_it_may_change_at_any_time(clock: ManualClock) -> None:
    sender = Sender(clock)
    wire = Wire(sender, clock)
    sender.ring, _ = rings()
    wire.run(10)
    assert len(wire.packets) == 10
    sender.configure(Codec(silence=False))
    wire.run(10)
    assert len(wire.packets) == 10
    sender.configure(Codec())
    wire.run(10)
    assert len(wire.packets) == 20
    assert np.abs(wire.heard()).max() < 4


@pytest.mark.parametrize("application", ["lowdelay", "audio", "voip"])
@pytest.mark.parametrize("pause", [0, 1, 10])
def test_speech_has_its_level_from_the_first_frame_after_a_pause_or_a_flush(
    clock: ManualClock, application: Application, pause: int
) -> None:
    sender = Sender(clock, Codec(application=application))
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    wire.run(pause)
    for _ in range(2):
        write(bot, tone(440, 20 * FRAME))
        wire.run(6)
        heard = wire.heard()
        levels = [level_db(heard[start : start + FRAME]) for start in range(0, len(heard), FRAME)]
        assert max(abs(level + 12) for level in levels[-5:]) < 1, levels
        bot.flush()
        wire.run(max(pause, 1))
        wire.heard()
