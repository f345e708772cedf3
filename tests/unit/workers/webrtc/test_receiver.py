"""From datagrams to the mic ring: order, codecs, and packets that are none."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipc.clock import NS_PER_MS
from tests.fakes.audio import level_db, pitch_hz, tone
from tests.fakes.incoming import CN, DTMF, PCMU, SSRC, TONE, Call
from workers.audio import decoder, g711
from workers.webrtc import rtcp
from workers.webrtc.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock


@pytest.fixture
def call(clock: ManualClock) -> Iterator[Call]:
    call = Call(clock)
    yield call
    call.receiver.stop()


# -- sound --------------------------------------------------------------------------------


@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
def test_what_the_caller_says_reaches_the_ring_at_its_rate(clock: ManualClock, hz: int) -> None:
    call = Call(clock, hz)
    call.stream(TONE)
    heard = call.heard()
    assert len(heard) == hz
    assert abs(pitch_hz(heard[hz // 20 :], hz) - 440) < 5
    assert abs(level_db(heard[hz // 20 :]) + 12) < 0.5
    assert call.bells == 50
    call.receiver.stop()


def test_a_stereo_ring_gets_both_channels(clock: ManualClock) -> None:
    call = Call(clock, channels=2)
    call.stream(TONE)
    left, right = call.heard().reshape(-1, 2).T
    assert len(left) == 48_000
    assert abs(pitch_hz(left[4_800:], 48_000) - 440) < 5
    assert np.array_equal(left, right)
    call.receiver.stop()


def test_the_capture_anchor_names_the_newest_packet(call: Call) -> None:
    call.stream(TONE[:3])
    anchor = call.bot.capture()
    assert anchor.cursor == 3 * 960
    assert anchor.rtp_timestamp == 2 * 960
    assert call.clock.now_ns() - anchor.ns == 20 * NS_PER_MS


def test_what_is_said_before_a_bot_came_is_dropped(call: Call) -> None:
    ring, call.receiver.ring = call.receiver.ring, None
    call.stream(TONE[:10])
    assert call.bells == 0
    call.receiver.ring = ring
    for number in range(10, 30):
        call.rtp(number, TONE[number])
        call.wait(20)
    assert len(call.heard()) == 20 * 960


def test_packets_that_come_late_or_twice_or_not_leave_no_hole(call: Call) -> None:
    for number, payload in enumerate(TONE):
        if number in (20, 21):
            call.wait(20)
            continue
        call.rtp(number, payload)
        if number == 30:
            call.rtp(number, payload)
        call.wait(20)
    heard = call.heard()
    assert len(heard) == 48_000
    frames = heard[4_800:].reshape(-1, 960)
    assert min(level_db(frame) for frame in frames) > -20, "what was lost is concealed"


def test_a_caller_who_falls_silent_is_silent_in_the_ring_and_no_longer_than_that(
    call: Call,
) -> None:
    call.stream(TONE[:10])
    call.wait(1_000)
    heard = call.heard()
    assert abs(len(heard) - 48 * (200 + 1_000 - 65)) <= 2 * 960
    fade = heard[10 * 960 : 15 * 960].reshape(-1, 960)
    levels = [level_db(frame) for frame in fade]
    assert levels == sorted(levels, reverse=True)
    assert not np.any(heard[15 * 960 :])


def test_comfort_noise_and_dtmf_keep_their_place_and_make_no_sound(call: Call) -> None:
    for number, payload in enumerate(TONE[:30]):
        if number in (10, 11):
            call.rtp(number, b"\x00\x01\x02\x03", kind=CN if number == 10 else DTMF)
        else:
            call.rtp(number, payload)
        call.wait(20)
    assert len(call.heard()) == 30 * 960
    assert call.receiver.reorder is not None
    assert (call.receiver.reorder.lost, call.receiver.reorder.concealed_ticks) == (0, 0)


def test_another_payload_type_is_another_decoder_and_another_clock(call: Call) -> None:
    call.stream(TONE[:10])
    ulaw = [
        g711.encode("PCMU", np.asarray(frame, np.int16))
        for frame in tone(440, 4_000, hz=8_000).reshape(-1, 160)
    ]
    for number, payload in enumerate(ulaw, start=10):
        call.rtp(number, payload, kind=PCMU, step=160)
        call.wait(20)
    heard = call.heard()
    assert abs(len(heard) - (10 + 25) * 960) <= 2 * 960
    assert abs(pitch_hz(heard[-20 * 960 :], 48_000) - 440) < 5


def test_a_caller_who_changes_the_codec_with_every_packet_has_one_decoder_of_each(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = decoder.decoder

    def counted(codec: str, hz: int, channels: int) -> decoder.Decoder:
        made.append(codec)
        return make(codec, hz, channels)

    monkeypatch.setattr(decoder, "decoder", counted)
    for number, payload in enumerate(TONE):
        if number % 2:
            call.rtp(number, b"\xff" * 160, kind=PCMU)
        else:
            call.rtp(number, payload)
        call.wait(20)
    assert made == ["opus", "PCMU"]
    assert abs(len(call.heard()) - 48_000) <= 2 * 960


# -- what is no media ---------------------------------------------------------------------


def test_what_is_not_authentic_is_counted_and_nothing_else(call: Call) -> None:
    call.rtp(0, b"FORGED")
    call.give(bytes.fromhex("80c90001deadbeef") + b"FORGED")
    assert call.receiver.rejected == 2
    assert call.receiver.arrivals is None


def test_headers_with_sources_extensions_and_padding_are_stepped_over(call: Call) -> None:
    call.rtp(0, TONE[0] + b"\0\0\0\4", first=0xA0)
    call.rtp(1, TONE[1], first=0x82, head=bytes(8))
    call.rtp(2, TONE[2], first=0x90, head=b"\xbe\xde\0\2" + bytes(8))
    plain = Call(call.clock)
    plain.stream(TONE[:3])
    assert np.array_equal(call.heard(), plain.heard())
    plain.receiver.stop()


@pytest.mark.parametrize(
    ("first", "head", "payload"),
    [
        (0xA0, b"", b"\xff"),
        (0x8F, b"", b"x"),
        (0x90, b"", b"xx"),
        (0x90, b"\xbe\xde\xff\xff", b"x"),
    ],
)
def test_lengths_that_lie_are_counted(call: Call, first: int, head: bytes, payload: bytes) -> None:
    call.rtp(0, payload, first=first, head=head)
    assert len(call.heard()) == 0


def test_no_bytes_make_it_fail(call: Call) -> None:
    rng = random.Random(5)
    for number, payload in enumerate(TONE):
        for _ in range(40):
            data = rng.randbytes(rng.choice([1, 2, 11, 12, 13, 20, 60, 1_400]))
            call.give(bytes([0x80 | data[0] & 0x3F]) + data)
        call.rtp(number, payload)
        call.wait(20)
    assert call.receiver.arrivals is not None


def test_before_the_keys_are_there_nothing_is_taken(clock: ManualClock) -> None:
    receiver = Receiver(clock, lambda: None, lambda _report: None)
    receiver.media(100, clock.now_ns())
    receiver.tick(clock.now_ns())
    assert receiver.malformed == 1


# -- reports ------------------------------------------------------------------------------


def test_the_peers_reports_are_passed_on_and_its_own_are_answered(call: Call) -> None:
    call.stream(TONE[:5])
    sent = rtcp.sender_report(
        SSRC, "you", unix_ns=1_700_000_000_500_000_000, rtp_timestamp=5, packets=5, octets=100,
        blocks=rtcp.report_block(7, fraction=64, lost=-3, highest=9, jitter=48, last=1, delay=2),
    )  # fmt: skip
    call.give(sent)
    assert [report.kind for report in call.reports] == [rtcp.SENDER_REPORT]
    assert call.reports[0].reports == (rtcp.Block(7, 64, -3, 9, 48, 1, 2),)
    call.clock.advance_ms(250)
    (again,) = rtcp.parse(
        rtcp.sender_report(
            9, "us", unix_ns=0, rtp_timestamp=0, packets=0, octets=0,
            blocks=call.receiver.report_block(call.clock.now_ns()),
        )
    )  # fmt: skip
    (block,) = again.reports
    assert block.ssrc == SSRC
    assert block.lsr == rtcp.ntp_time(1_700_000_000_500_000_000) >> 16 & 0xFFFFFFFF
    assert block.dlsr == 250 * 65_536 // 1_000
    assert (block.fraction_lost, block.packets_lost) == (0, 0)
