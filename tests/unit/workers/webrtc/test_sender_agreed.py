"""What a later offer changes while the bot speaks: who hears whom, the codec, its number."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiortc.rtp import RtcpPacket, RtcpRrPacket, RtcpSdesPacket, RtcpSrPacket, RtpPacket

from ipc.codec import Codec
from tests.fakes.audio import level_db, pitch_hz, tone
from tests.fakes.rings import rings
from tests.fakes.wire import FRAME, Wire, write
from workers.audio import decoder as decoders
from workers.webrtc import rtcp
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from ipc.clock import ManualClock
    from tests.fakes.audio import Samples

OURS, ANOTHER = 1234, 5678
OPUS = SimpleNamespace(mimeType="audio/opus", payloadType=96, clockRate=48_000)
OPUS_97 = SimpleNamespace(mimeType="audio/opus", payloadType=97, clockRate=48_000)
PCMU = SimpleNamespace(mimeType="audio/PCMU", payloadType=0, clockRate=8_000)
PCMA = SimpleNamespace(mimeType="audio/PCMA", payloadType=8, clockRate=8_000)
NAMES = {96: "opus", 97: "opus", 0: "PCMU", 8: "PCMA"}


@pytest.fixture
def sender(clock: ManualClock) -> Sender:
    return Sender(clock)


def agree(sender: Sender, codec: Any = OPUS, *, ssrc: int = OURS, heard: bool = True) -> None:
    sender.agree(codec, ssrc=ssrc, heard=heard)


def sent(wire: Wire) -> list[RtpPacket]:
    return [RtpPacket.parse(data) for data in wire.datagrams if not 200 <= data[1] <= 206]


def reported(wire: Wire) -> list[Any]:
    return [
        packet
        for data in wire.datagrams
        if 200 <= data[1] <= 206
        for packet in RtcpPacket.parse(data)
    ]


def decoded(packets: list[RtpPacket]) -> Samples:
    """Each number by a decoder of its own, at 48 kHz."""
    made: dict[int, decoders.Decoder] = {}
    pieces = []
    for packet in packets:
        kind = packet.payload_type
        into = made.setdefault(kind, decoders.decoder(NAMES[kind], 48_000, 1))
        count = into.decode(packet.payload, len(packet.payload))
        pieces.append(into.pcm[:count].copy())
    return np.concatenate(pieces)


# -- who hears whom -----------------------------------------------------------------------


def test_for_who_does_not_listen_time_goes_on_and_nothing_leaves_but_reports(
    sender: Sender, clock: ManualClock
) -> None:
    agree(sender, heard=False)
    wire = Wire(sender, clock)
    sender.report_block = lambda _now: rtcp.report_block(
        99, fraction=0, lost=0, highest=7, jitter=0, last=0, delay=0
    )
    sender.ring, bot = rings()
    write(bot, tone(440, 45 * FRAME))
    for played in range(1, 46):
        wire.run(1)
        assert bot.playback().cursor == played * FRAME
    wire.run(80)
    assert bot.room() == bot.speaker.capacity
    assert sent(wire) == []
    assert (sender.packets, sender.failures) == (0, 0)
    kinds = [type(packet) for packet in reported(wire)]
    assert kinds == [RtcpRrPacket, RtcpSdesPacket] * 3, "one a second"
    assert reported(wire)[0].ssrc == OURS
    assert reported(wire)[0].reports[0].ssrc == 99


@pytest.mark.parametrize("fade_samples", [0, 480])
def test_a_flush_is_answered_in_the_next_slot_though_nobody_listens(
    sender: Sender, clock: ManualClock, fade_samples: int
) -> None:
    agree(sender, heard=False)
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 40 * FRAME))
    wire.run(5)
    flush_to = bot.flush(fade_samples)
    wire.run(2)
    assert bot.flushed().flush_to == flush_to
    assert bot.room() == bot.speaker.capacity
    assert sent(wire) == []


def test_a_hold_stops_packets_at_once_and_speech_resumes_where_time_is(
    sender: Sender, clock: ManualClock
) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 30 * FRAME))
    wire.run(10)
    sender.encode()
    agree(sender, heard=False)
    sender.send(clock.now_ns())
    clock.advance_ms(20)
    wire.run(9)
    assert len(sent(wire)) == 10
    agree(sender, heard=True)
    wire.run(8)
    packets = sent(wire)
    assert bot.playback().cursor == 28 * FRAME
    numbers = [packet.sequence_number for packet in packets]
    assert {b - a for a, b in itertools.pairwise(numbers)} == {1}
    steps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(packets)]
    assert sorted(set(steps)) == [FRAME, 11 * FRAME]
    assert [packet.marker for packet in packets].count(1) == 2
    assert steps.index(11 * FRAME) == 9
    assert packets[10].marker == 1
    assert abs(pitch_hz(decoded(packets)[-5 * FRAME :]) - 440) < 5


# -- another codec ------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("first", "second"),
    [(OPUS, OPUS_97), (OPUS, PCMU), (OPUS, PCMA), (PCMU, PCMA), (PCMU, OPUS)],
)
@pytest.mark.parametrize("ready", [False, True])
def test_speech_goes_on_in_another_codec_without_a_gap(
    sender: Sender, clock: ManualClock, first: Any, second: Any, channels: int, ready: bool
) -> None:
    wire = Wire(sender, clock, NAMES[first.payloadType])
    sender.stereo = channels == 2
    agree(sender, first)
    sender.ring, bot = rings(channels=channels)
    sound = np.repeat(tone(440, 40 * FRAME), channels)
    assert bot.write_speaker(memoryview(sound.tobytes())) == 40 * FRAME
    wire.run(20)
    if ready:
        sender.encode()
    renewed = first.clockRate != second.clockRate
    assert sender.fits(second.clockRate) == (not renewed)
    agree(sender, second, ssrc=ANOTHER if renewed else OURS)
    if ready:
        clock.advance_ms(5)
        sender.send(clock.now_ns())
        clock.advance_ms(15)
    wire.run(20 - ready)

    packets = sent(wire)
    assert len(packets) == 40, "one each 20 ms"
    assert bot.playback().cursor == 40 * FRAME
    old, new = packets[:20], packets[20:]
    assert {packet.payload_type for packet in old} == {first.payloadType}
    assert {packet.payload_type for packet in new} == {second.payloadType}
    assert {packet.ssrc for packet in new} == {ANOTHER if renewed else OURS}
    assert new[0].marker == renewed
    for part, codec in ((old, first), (new, second)) if renewed else ((packets, first),):
        step = codec.clockRate // 50
        for a, b in itertools.pairwise(part):
            assert (b.sequence_number - a.sequence_number) % 2**16 == 1
            assert (b.timestamp - a.timestamp) % 2**32 == step
    frames = decoded(packets).reshape(-1, FRAME)
    assert min(level_db(frame) for frame in frames[1:]) > -18, "each frame sounds"
    assert abs(pitch_hz(frames[25:].reshape(-1)) - 440) < 5


def test_what_is_agreed_on_again_changes_nothing(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, bot = rings()
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    sender.encode()
    following = sender._next
    encoder, ready = following.encoder, following._ready_bytes
    agree(sender)
    assert (following.encoder, following._ready_bytes) == (encoder, ready)
    sender.send(clock.now_ns())
    wire.run(5)
    assert [packet.marker for packet in sent(wire)] == [1] + [0] * 10


def test_reports_of_another_source_count_what_it_sent(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock)
    sender.ring, _bot = rings()
    wire.run(70)
    agree(sender, PCMU, ssrc=ANOTHER)
    wire.run(60)
    reports = [report for report in reported(wire) if isinstance(report, RtcpSrPacket)]
    assert [report.ssrc for report in reports] == [OURS, OURS, ANOTHER]
    assert reports[-1].sender_info.packet_count <= 60
    assert reports[-1].sender_info.octet_count == 160 * reports[-1].sender_info.packet_count
    assert sender.packets == 130


def test_no_copies_of_packets_from_another_clock(sender: Sender, clock: ManualClock) -> None:
    wire = Wire(sender, clock, "PCMU")
    sender.ring, bot = rings()
    agree(sender, PCMU, ssrc=OURS)
    sender.redundancy.level = 2
    sender.red_type = 63
    write(bot, tone(440, 20 * FRAME))
    wire.run(5)
    agree(sender, OPUS, ssrc=ANOTHER)
    wire.datagrams.clear()
    wire.run(1)
    (packet,) = sent(wire)
    assert (packet.payload_type, packet.payload[0]) == (63, 96), "nothing stands before it"


def test_in_silence_and_with_dtx_a_switch_sends_no_more_than_before(clock: ManualClock) -> None:
    sender = Sender(clock, Codec(dtx=True))
    wire = Wire(sender, clock)
    sender.ring, _bot = rings()
    wire.run(10)
    agree(sender, PCMU, ssrc=ANOTHER)
    wire.run(10)
    assert sent(wire) == []
