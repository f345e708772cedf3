"""Speech over a background, packet by packet: flushes, ends and pauses leave no click."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipc.codec import Codec
from tests.fakes.audio import level_db, pitch_hz, tone
from tests.fakes.rings import rings
from tests.fakes.sounds import clicks_db
from tests.fakes.wire import FRAME, Wire, write
from workers.audio.mixer import Mixer
from workers.audio.sound import Sound
from workers.webrtc.frame_encoder import OPUS_SILENCE
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from ipc.audio_ring import BotRing
    from ipc.clock import ManualClock
    from tests.fakes.audio import Samples

HZ = 48_000
# A hard cut of the tone of these tests is louder than this, measured alike.
CUT_DB = -45
LOOKAHEAD = 120
BACKGROUND = 913  # no whole number of periods in a frame: every packet differs
MOMENTS = pytest.mark.parametrize("encoded_ahead", [False, True], ids=["before", "after encode"])


class Call:
    """A sender whose mixer plays a tone at -20 dB, and a bot that has said nothing yet."""

    def __init__(
        self, clock: ManualClock, *, codec: Codec | None = None, law: str = "opus"
    ) -> None:
        self.sender = Sender(clock, codec or Codec())
        self.wire = Wire(self.sender, clock, law)
        self.sender.ring, self.bot = rings()
        self.mixer = self.sender.mixer = Mixer()
        self.sound = Sound(HZ, tone(BACKGROUND, HZ, db=-20))
        self.mixer.play(self.sound)

    def flush(self, *, encoded_ahead: bool, fade: int = 0) -> int:
        """On the beat, before or after the next packet was made ready."""
        wire = self.wire
        if encoded_ahead:
            self.sender.encode()
        flush_to = self.bot.flush(fade)
        if not encoded_ahead:
            self.sender.encode()
        wire.clock.advance_ms(5)
        self.sender.send(wire.clock.now_ns())
        wire.clock.advance_ms(15)
        return flush_to


@pytest.fixture
def call(clock: ManualClock) -> Call:
    return Call(clock)


def speech(frames: int, *, start: int = 0) -> Samples:
    """Frames of a tone whose value where they end is not 0."""
    return tone(440, frames * FRAME, start=7 + start)


def test_a_background_alone_is_sent_and_no_packet_is_repeated(call: Call) -> None:
    call.wire.run(60)
    payloads = [packet.payload for packet in call.wire.packets]
    assert OPUS_SILENCE not in payloads
    assert len(set(payloads)) == 60
    heard = call.wire.heard()
    assert abs(level_db(heard[2 * FRAME :]) + 20) < 0.5
    assert abs(pitch_hz(heard[2 * FRAME :]) - BACKGROUND) < 2
    assert call.bot.playback().cursor == 0, "cursors count speech alone"
    assert call.sender.underruns == 0


def test_speech_is_heard_over_it_and_counts_as_ever(call: Call) -> None:
    write(call.bot, speech(20))
    call.bot.end()
    call.wire.run(40)
    heard = call.wire.heard()
    both = heard[5 * FRAME : 18 * FRAME]
    spectrum = np.abs(np.fft.rfft(both * np.hanning(len(both)))) / len(both) * 4 / 32_767
    found = 20 * np.log10(
        np.array([spectrum[round(hz * len(both) / HZ)] for hz in (440, BACKGROUND)])
    )
    assert abs(found[0] + 12) < 1
    assert abs(found[1] + 20) < 1
    assert call.bot.playback().cursor == 20 * FRAME
    assert abs(level_db(heard[22 * FRAME :]) + 20) < 0.5
    assert clicks_db(heard[2 * FRAME :]) < CUT_DB, "the end of the speech does not click"


@MOMENTS
@pytest.mark.parametrize("fade", [0, 240])
def test_a_flush_takes_the_speech_and_leaves_the_background_without_a_click(
    call: Call, encoded_ahead: bool, fade: int
) -> None:
    write(call.bot, speech(40))
    call.wire.run(10)
    at = call.mixer.position
    flush_to = call.flush(encoded_ahead=encoded_ahead, fade=fade)
    assert call.bot.flushed() == (flush_to, 10 * FRAME + fade)
    assert call.mixer.position == at + FRAME, "one frame for one packet, none is left out"
    call.wire.run(30)
    heard = call.wire.heard()
    assert len(heard) == 41 * FRAME
    assert clicks_db(heard[2 * FRAME :]) < CUT_DB
    after = heard[11 * FRAME + 2 * LOOKAHEAD :]
    assert abs(level_db(after) + 20) < 0.5, "no speech is left, the background is as it was"
    assert abs(pitch_hz(after) - BACKGROUND) < 2
    steady = tone(BACKGROUND, len(heard), db=-20).astype(np.int32)
    # The same samples at the same place as if nobody had spoken.
    rest = heard[15 * FRAME + LOOKAHEAD :] - steady[15 * FRAME : len(heard) - LOOKAHEAD]
    assert level_db(rest.astype(np.int16)) < -40


@MOMENTS
def test_what_follows_a_flush_is_heard_from_its_first_sample(
    call: Call, encoded_ahead: bool
) -> None:
    write(call.bot, speech(20))
    call.wire.run(5)
    flush_to = call.flush(encoded_ahead=encoded_ahead)
    write(call.bot, tone(1_500, 20 * FRAME))
    call.wire.run(25)
    assert call.bot.playback().cursor == flush_to + 20 * FRAME
    assert call.bot.room() == call.bot.speaker.capacity


def test_a_flush_while_only_the_background_plays_changes_no_packet(call: Call) -> None:
    call.wire.run(10)
    call.sender.encode()
    at = call.mixer.position
    call.bot.flush()
    call.sender.send(call.wire.clock.now_ns())
    assert call.mixer.position == at
    call.wire.run(10)
    assert clicks_db(call.wire.heard()[2 * FRAME :]) < -75


def test_a_background_that_ends_gives_way_to_silence(call: Call) -> None:
    call.wire.run(10)
    call.mixer.play(None)
    call.wire.run(50)
    assert call.wire.packets[-1].payload == OPUS_SILENCE
    heard = call.wire.heard()
    assert clicks_db(heard[2 * FRAME :]) < -70
    assert level_db(heard[12 * FRAME :]) < -60
    write(call.bot, speech(10))
    call.wire.run(10)
    assert call.bot.playback().cursor == 10 * FRAME


def test_a_background_is_sent_also_by_those_who_send_no_silence(clock: ManualClock) -> None:
    call = Call(clock, codec=Codec(silence=False, dtx=True))
    call.wire.run(10)
    assert len(call.wire.packets) == 10
    call.mixer.play(None)
    call.wire.run(10)
    count = len(call.wire.packets)
    call.wire.run(20)
    assert len(call.wire.packets) == count


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_telephones_hear_it_too(clock: ManualClock, law: str) -> None:
    call = Call(clock, law=law)
    write(call.bot, speech(10))
    call.wire.run(6)
    call.flush(encoded_ahead=True)
    call.wire.run(10)
    assert len({packet.payload for packet in call.wire.packets}) > 10


def replies(bot: BotRing) -> tuple[int, int]:
    return bot.playback().cursor, bot.room()


@MOMENTS
def test_cursors_and_room_are_those_of_a_call_without_a_background(
    clock: ManualClock, encoded_ahead: bool
) -> None:
    plain, mixed = Call(clock), Call(clock)
    plain.sender.mixer = None
    seen: list[list[tuple[int, int]]] = []
    for call in (plain, mixed):
        told = []
        for count in (300, 5_000, 17):
            write(call.bot, tone(440, count))
            call.wire.run(3)
            told.append(replies(call.bot))
            call.flush(encoded_ahead=encoded_ahead, fade=count % 100)
            told.append(replies(call.bot))
            call.wire.run(3)
        seen.append(told)
    assert seen[0] == seen[1]
