"""The sender from the speaker ring to packets, slot by slot, without a network."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from aiortc.rtp import RtcpByePacket, RtcpSrPacket

from ipc.audio_ring import NEVER
from ipc.codec import Codec
from ipc.ring_layout import SPEAKER_WRITE
from tests.fakes.audio import level_db, pitch_hz, tone
from tests.fakes.rings import rings
from tests.fakes.wire import FRAME, Wire, write
from workers.webrtc.frame_encoder import OPUS_SILENCE
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from ipc.clock import ManualClock


@pytest.fixture
def sender(clock: ManualClock) -> Sender:
    return Sender(clock)


def test_sequence_numbers_and_timestamps_run_without_a_gap(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 10 * FRAME))
    wire.run(20)
    packets = wire.packets
    first = packets[0]
    assert [p.sequence_number - first.sequence_number for p in packets] == list(range(20))
    assert [(p.timestamp - first.timestamp) % 2**32 for p in packets] == list(range(0, 19_200, 960))
    assert [p.marker for p in packets] == [1] + [0] * 19
    assert sender.packets == 20


@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
def test_every_rate_is_heard_at_its_pitch_and_level(
    sender: Sender, clock: ManualClock, hz: int
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings(hz)
    write(bot, tone(440, hz // 2, hz=hz))
    wire.run(25)
    heard = wire.heard()[9_600:]
    assert abs(pitch_hz(heard) - 440) < 4
    assert abs(level_db(heard) + 12) < 1


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_peers_without_opus_get_160_bytes_a_frame(
    sender: Sender, clock: ManualClock, law: str
) -> None:
    wire = Wire(sender, clock, law)
    sender.ring, bot = rings()
    write(bot, tone(440, 5 * FRAME))
    wire.run(8)
    packets = wire.packets
    assert {len(packet.payload) for packet in packets} == {160}
    assert {b.timestamp - a.timestamp for a, b in itertools.pairwise(packets)} == {160}
    assert len(set(packets[3].payload)) > 20, "speech"
    assert len(set(packets[7].payload)) == 1, "silence"


def test_the_anchor_names_the_packet_that_left_and_when(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 3 * FRAME))
    sender.encode()
    assert bot.playback().cursor == 0, "what is encoded has not left"
    assert bot.room() == bot.speaker.capacity - 3 * FRAME
    clock.advance_ms(5)
    sender.send(clock.now_ns())
    anchor = bot.playback()
    assert (anchor.cursor, anchor.ns) == (FRAME, clock.now_ns())
    assert anchor.rtp_timestamp == wire.packets[0].timestamp
    assert bot.room() == bot.speaker.capacity - 2 * FRAME


def test_silence_stops_costing_and_speech_after_it_is_whole(
    sender: Sender, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 5 * FRAME))
    wire.run(60)
    assert wire.packets[-1].payload == OPUS_SILENCE
    encoder = sender._next.encoder
    assert encoder is not None
    monkeypatch.setattr(
        encoder.encoder, "encode", lambda *_: pytest.fail("silence is encoded again")
    )
    wire.run(10)
    monkeypatch.undo()
    wire.heard()
    write(bot, tone(440, 20 * FRAME))
    wire.run(20)
    assert abs(level_db(wire.heard()[2 * FRAME :]) + 12) < 1


def test_dtx_sends_nothing_and_marks_the_first_packet_after_it(clock: ManualClock) -> None:
    sender = Sender(clock, Codec(dtx=True))
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    wire.run(10)
    assert wire.packets == []
    write(bot, tone(440, FRAME))
    wire.run(1)
    assert [packet.marker for packet in wire.packets] == [1]


def test_a_flush_before_the_packet_leaves_replaces_it(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    sender.encode()
    flush_to = bot.flush()
    sender.send(clock.now_ns())
    assert wire.packets[-1].payload == OPUS_SILENCE
    assert bot.flushed() == (flush_to, 5 * FRAME), "five frames left, not one sample more"
    assert bot.room() == bot.speaker.capacity
    wire.run(30)
    assert level_db(wire.heard()[7 * FRAME :]) < -60, "nothing rings on"


def test_what_follows_a_flush_is_sent_from_its_first_sample(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 5 * FRAME + 100))
    wire.run(5)
    write(bot, tone(440, 100))
    sender.encode()  # 200 samples: too few, they wait a tick
    flush_to = bot.flush()
    write(bot, tone(900, 20 * FRAME))
    sender.send(clock.now_ns())
    wire.heard()
    wire.run(20)
    assert bot.playback().cursor == flush_to + 20 * FRAME
    assert abs(pitch_hz(wire.heard()[FRAME:]) - 900) < 9


def test_a_flush_inside_an_encoded_frame_rewinds_to_it(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 500))
    flush_to = bot.flush()
    # The flush is stored, and the frame that is encoded now lies across it.
    bot._words[0x088 // 8] = 0
    write(bot, tone(900, 10 * FRAME))
    sender.encode()
    bot._words[0x088 // 8] = flush_to
    sender.send(clock.now_ns())
    assert bot.playback().cursor == flush_to + FRAME, "not one sample behind the flush is lost"
    wire.run(8)
    assert abs(pitch_hz(wire.heard()[FRAME:]) - 900) < 9


def test_the_rest_of_an_utterance_leaves_at_once_when_its_end_is_known(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, FRAME + 100))
    bot.end()
    wire.run(2)
    assert bot.playback().cursor == FRAME + 100
    assert bot.underrun == 0


def test_the_rest_of_a_frame_waits_one_tick_and_is_then_sent_and_counted(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 500))
    wire.run(1)
    assert bot.playback().cursor == 0
    wire.run(1)
    assert bot.playback().cursor == 500
    assert (bot.underrun, sender.underruns) == (FRAME - 500, 1)


def test_a_stereo_ring_is_mixed_down_for_a_peer_that_plays_mono(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings(channels=2)
    pair = np.stack((tone(440, 20 * FRAME), tone(440, 20 * FRAME)), axis=1)
    assert bot.write_speaker(memoryview(pair.tobytes())) == 20 * FRAME
    wire.run(20)
    assert abs(level_db(wire.heard()[2 * FRAME :]) + 12) < 1
    assert bot.playback().cursor == 20 * FRAME


def test_a_stereo_ring_stays_stereo_for_a_peer_that_plays_it(
    sender: Sender, clock: ManualClock
) -> None:
    sender.stereo = True
    wire = Wire(sender, clock)
    sender.ring, bot = rings(channels=2)
    pair = np.stack((tone(440, 5 * FRAME), tone(900, 5 * FRAME)), axis=1)
    bot.write_speaker(memoryview(pair.tobytes()))
    wire.run(5)
    assert all(packet.payload[0] & 0x04 for packet in wire.packets), "the TOC byte says stereo"


def test_cursors_that_a_bot_made_up_are_not_followed(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    for lie in (NEVER, 2**63, 48_000 * 60):
        bot._words[SPEAKER_WRITE] = lie
        wire.run(2)
    assert {packet.payload for packet in wire.packets} == {OPUS_SILENCE}


def test_reports_map_the_rtp_clock_and_count_what_left(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, _bot = rings()
    wire.run(100)
    reports = [report for report in wire.reports if isinstance(report, RtcpSrPacket)]
    assert len(reports) == 2
    info = reports[-1].sender_info
    sent = [p for p in wire.packets if (p.timestamp - info.rtp_timestamp) % 2**32 > 2**31]
    assert info.packet_count == len(sent) + 1
    sender.stop()
    assert isinstance(wire.reports[-1], RtcpByePacket)


def test_what_cannot_be_protected_is_counted_and_time_goes_on(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 4 * FRAME))
    wire.broken = True
    wire.run(2)
    wire.broken = False
    wire.run(2)
    assert (sender.failures, len(wire.packets)) == (2, 2)
    assert bot.playback().cursor == 4 * FRAME


def test_missed_frames_pass_on_the_rtp_clock_without_sequence_numbers(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    wire.run(1)
    sender.miss(5)
    wire.run(1)
    first, second = wire.packets
    assert second.sequence_number - first.sequence_number == 1
    assert second.timestamp - first.timestamp == 6 * FRAME


def test_new_parameters_hold_from_the_next_packet_on_without_a_gap(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    sizes = []
    for codec in (Codec(), Codec(bitrate_bps=16_000), Codec(application="voip"), Codec()):
        sender.configure(codec)
        write(bot, tone(440, 10 * FRAME))
        wire.run(10)
        sizes.append(sum(len(packet.payload) for packet in wire.packets[-8:]))
    assert sizes[1] < 0.5 * sizes[0]
    numbers = [packet.sequence_number for packet in wire.packets]
    assert {b - a for a, b in itertools.pairwise(numbers)} == {1}
    assert bot.playback().cursor == 40 * FRAME
    assert {packet.payload[0] >> 3 for packet in wire.packets[20:30]} != {31}, "SILK may come in"
    assert abs(level_db(wire.heard()[2 * FRAME : 9 * FRAME]) + 12) < 1


def test_a_packet_that_is_ready_survives_new_parameters(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 5 * FRAME))
    wire.run(2)
    sender.encode()
    sender.configure(Codec(application="audio"))
    bot.flush(FRAME)
    sender.send(clock.now_ns())
    assert bot.flushed().sent == 3 * FRAME


def test_a_peer_that_plays_stereo_from_now_on_is_sent_stereo(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings(channels=2)
    pair = np.stack((tone(440, 6 * FRAME), tone(900, 6 * FRAME)), axis=1)
    bot.write_speaker(memoryview(pair.tobytes()))
    wire.run(3)
    sender.stereo = True
    wire.run(3)
    assert [bool(packet.payload[0] & 0x04) for packet in wire.packets] == [False] * 3 + [True] * 3


def test_a_sender_that_cannot_begin_says_so(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[str] = []
    sender.on_fault = lambda: faults.append("codec")
    sender._start(SimpleNamespace(mimeType="audio/opus"))
    assert faults == ["codec"]
    assert "cannot begin" in caplog.text
    assert not sender.sending
