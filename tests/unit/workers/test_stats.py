"""Counters become records: names, units, what is absent while it is not known."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from ipc.clock import NS_PER_MS, NS_PER_S
from ipc.messages import Stats
from ipc.stats import as_report
from ipc.wire import decode, encode
from tests.fakes.audio import tone
from tests.fakes.rings import rings
from tests.fakes.wire import Wire, write
from workers import stats
from workers.webrtc import rtcp
from workers.webrtc.ice import ChosenPair
from workers.webrtc.receiver import Receiver
from workers.webrtc.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock

PCMU, SSRC, OURS = 0, 0xDEADBEEF, 1234
UNIX_NS = 1_700_000_000_123_456_789
PAIR = ChosenPair(("127.0.0.1", 40_000), "host", ("192.0.2.7", 5_000), "prflx", 12_500_000, 3)


class Plain:
    """SRTP that changes nothing; what ends with FORGED is not authentic."""

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer

    def unprotect(self, length: int) -> int:
        return 0 if self._buffer[:length].endswith(b"FORGED") else length

    unprotect_rtcp = unprotect


class Call:
    """A sender and a receiver on the rings of one session, and the peer's side of the wire."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.ring, self.bot = rings(8_000)
        self.sender = Sender(clock)
        self.wire = Wire(self.sender, clock)
        self.sender.ring = self.ring
        self._buffer = bytearray(2_048)
        self.receiver = Receiver(clock, lambda: None, self.sender.heard)
        self.receiver.ring = self.ring
        self.receiver.start(Plain(self._buffer), self._buffer, {PCMU: ("pcmu", 8_000)})
        self.flushes = stats.Flushes()
        self.dropped = {"unknown_kind": 2}

    def give(self, data: bytes) -> None:
        self._buffer[: len(data)] = data
        self.receiver.media(len(data), self.clock.now_ns())

    def says(self, *numbers: int, forged: bool = False) -> None:
        """Packets of the peer, 20 ms from one to the next."""
        for number in numbers:
            header = struct.pack("!BBHII", 0x80, PCMU, number, number * 160, SSRC)
            self.give(header + (b"FORGED" if forged else bytes(160)))
            for _ in range(10):
                self.clock.advance_ms(2)
                self.receiver.tick(self.clock.now_ns())

    def report(self, pair: ChosenPair | None = PAIR, **changes: Any) -> dict[str, dict[str, Any]]:
        sources: dict[str, Any] = {
            "sender": self.sender,
            "receiver": self.receiver,
            "pair": pair,
            "ring": self.ring,
            "flushes": self.flushes,
            "dropped_messages": 4,
            "datagrams": 99,
            "dropped": self.dropped,
        }
        return as_report(stats.records(stats.Sources(**(sources | changes)), UNIX_NS))


@pytest.fixture
def call(clock: ManualClock) -> Iterator[Call]:
    made = Call(clock)
    yield made
    made.receiver.stop()
    made.sender.stop()


def test_a_session_without_a_caller_has_only_its_workers_port(call: Call) -> None:
    report = call.report(sender=None, receiver=None, pair=None, ring=None)
    assert report == {
        "backbeat-worker": {
            "type": "backbeat-worker",
            "id": "backbeat-worker",
            "timestamp": pytest.approx(1_700_000_000_123.457),
            "datagramsReceived": 99,
            "datagramsDropped": {"unknown_kind": 2},
        }
    }


def test_before_anything_came_there_is_nothing_to_say_of_it(call: Call) -> None:
    report = call.report(pair=None)
    assert set(report) == {"outbound-audio", "backbeat-media", "backbeat-worker"}
    assert "flushLatencyMs" not in report["backbeat-media"]
    assert "remoteId" not in report["outbound-audio"]


def test_what_came_is_counted_with_what_did_not(call: Call) -> None:
    call.says(*range(10), *range(12, 20))
    call.says(19)
    call.says(20, forged=True)
    report = call.report()
    assert report["inbound-audio"] == {
        "type": "inbound-rtp",
        "id": "inbound-audio",
        "timestamp": pytest.approx(UNIX_NS / 1e6),
        "kind": "audio",
        "ssrc": SSRC,
        "clockRate": 8_000,
        "packetsReceived": 19,
        "bytesReceived": 19 * 160,
        "packetsLost": 1,  # two that never came, one that came twice
        "packetsDiscarded": 0,
        "jitter": pytest.approx(0.0, abs=0.01),
        "concealedSamples": 2 * 160,
        "silentConcealedSamples": 0,
    }
    media = report["backbeat-media"]
    assert (media["packetsDuplicate"], media["packetsRejected"]) == (1, 1)
    assert media["micConcealedSamples"] == 2 * 160
    assert media["micDepthMs"] == 20 * 20


def test_a_pause_that_was_announced_is_not_concealed(call: Call) -> None:
    call.says(*range(5))
    call.give(struct.pack("!BBHII", 0x80, 13, 5, 5 * 160, SSRC) + bytes([60]))
    for _ in range(250):
        call.clock.advance_ms(2)
        call.receiver.tick(call.clock.now_ns())
    report = call.report()
    assert report["inbound-audio"]["concealedSamples"] == 0
    assert report["inbound-audio"]["silentConcealedSamples"] == 0
    assert report["backbeat-media"]["micFilledSamples"] > 400 * 8


def test_silence_is_filled_and_counted_in_the_ring_too(call: Call) -> None:
    call.says(*range(3))
    for _ in range(100):
        call.clock.advance_ms(2)
        call.receiver.tick(call.clock.now_ns())
    report = call.report()
    filled = report["inbound-audio"]["silentConcealedSamples"]
    assert filled >= 5 * 160
    assert report["inbound-audio"]["concealedSamples"] == filled
    assert report["backbeat-media"]["micFilledSamples"] == filled


def test_what_a_slow_bot_lost_is_counted(call: Call) -> None:
    call.says(*range(260))  # the ring holds 5 s
    media = call.report()["backbeat-media"]
    assert media["micDroppedSamples"] == 10 * 160
    assert media["micDepthMs"] >= 5_000


def test_what_left_is_counted_and_how_the_peer_gets_it(call: Call) -> None:
    write(call.bot, tone(440, 1_600, hz=8_000))
    call.wire.run(5)
    assert "remote-inbound-audio" not in call.report()
    block = rtcp.report_block(OURS, fraction=64, lost=7, highest=5, jitter=480, last=0, delay=0)
    call.sender.heard(rtcp.Report(201, SSRC, 0, 0, (rtcp._block(block, 0),)))
    report = call.report()
    assert report["outbound-audio"]["packetsSent"] == 5
    assert report["outbound-audio"]["bytesSent"] == call.sender.octets > 0
    assert report["outbound-audio"]["remoteId"] == "remote-inbound-audio"
    remote = report["remote-inbound-audio"]
    assert (remote["packetsLost"], remote["fractionLost"], remote["jitter"]) == (7, 0.25, 0.01)
    assert "roundTripTime" not in remote, "no report of ours was echoed"
    assert report["backbeat-media"]["speakerDepthMs"] == 100


def test_what_the_peer_asks_for_is_counted(call: Call) -> None:
    call.wire.run(2)
    nack = struct.pack("!BBHIIHH", 0x81, 205, 3, SSRC, OURS, 7, 0)
    pli = struct.pack("!BBHII", 0x81, 206, 2, SSRC, OURS)
    fir = struct.pack("!BBHIIII", 0x84, 206, 4, SSRC, 0, OURS, 1 << 24)
    remb = struct.pack(
        "!BBHII4sII", 0x8F, 206, 5, SSRC, 0, b"REMB", 1 << 24 | 2 << 18 | 1_000, OURS
    )
    for packet in (nack, nack, nack, pli + fir, pli, remb):
        call.give(packet)
    report = call.report()
    sent = report["outbound-audio"]
    assert (sent["nackCount"], sent["pliCount"], sent["firCount"]) == (3, 2, 1)
    assert report["candidate-pair"]["availableOutgoingBitrate"] == 4_000
    assert sent["packetsSent"] == 2, "nothing is sent again"


def test_a_round_trip_is_told_in_seconds(call: Call) -> None:
    call.sender.reception.reports = call.sender.reception.round_trips = 1
    call.sender.reception.rtt_us = 25_000
    assert call.report()["remote-inbound-audio"]["roundTripTime"] == 0.025


def test_the_pair_refers_to_both_of_its_ends(call: Call) -> None:
    report = call.report()
    pair = report["candidate-pair"]
    assert (pair["state"], pair["nominated"], pair["responsesReceived"]) == ("succeeded", True, 3)
    assert pair["currentRoundTripTime"] == 0.0125
    local, remote = report[pair["localCandidateId"]], report[pair["remoteCandidateId"]]
    assert (local["type"], local["address"], local["port"]) == (
        "local-candidate",
        "127.0.0.1",
        40_000,
    )
    assert (remote["type"], remote["address"], remote["candidateType"]) == (
        "remote-candidate",
        "192.0.2.7",
        "prflx",
    )


def test_lateness_is_against_the_most_punctual_packet(call: Call) -> None:
    for late_ms in (0, 0, 3, 0):
        call.sender.encode()
        call.sender.send(call.clock.now_ns() + late_ms * NS_PER_MS)
        call.clock.advance_ms(20)
    media = call.report()["backbeat-media"]
    assert (media["latenessMs"], media["maxLatenessMs"]) == (0.75, 3.0)
    call.clock.advance_ms(60)
    call.sender.miss(3)
    call.sender.send(call.clock.now_ns())
    assert call.report()["backbeat-media"]["maxLatenessMs"] == 3.0


def test_redundancy_is_told_only_where_the_peer_takes_it(call: Call) -> None:
    call.sender.redundancy.level = 2
    assert call.report()["backbeat-media"]["redundancyLevel"] == 0
    call.sender.red_type = 63
    assert call.report()["backbeat-media"]["redundancyLevel"] == 2


@pytest.mark.parametrize("asked_ns", [0, 10 * NS_PER_S, NS_PER_S])
def test_a_flush_whose_time_cannot_be_is_counted_and_not_timed(asked_ns: int) -> None:
    flushes = stats.Flushes()
    flushes.answered(asked_ns, 3 * NS_PER_S)
    assert (flushes.count, flushes.newest_ns) == (1, None)


def test_flushes_are_timed_the_newest_and_the_worst(call: Call) -> None:
    for took_ms in (5, 20, 10):
        call.flushes.answered(7 * NS_PER_S, 7 * NS_PER_S + took_ms * NS_PER_MS)
    media = call.report()["backbeat-media"]
    assert (media["flushes"], media["flushLatencyMs"], media["maxFlushLatencyMs"]) == (3, 10, 20)


def test_the_records_travel_as_they_are(call: Call) -> None:
    call.says(*range(3))
    call.wire.run(2)
    sources = call.report()
    made = stats.records(
        stats.Sources(
            sender=call.sender,
            receiver=call.receiver,
            pair=PAIR,
            ring=call.ring,
            flushes=call.flushes,
            dropped_messages=4,
            datagrams=99,
            dropped=call.dropped,
        ),
        UNIX_NS,
    )
    message = decode(encode(Stats(records=made))).message
    assert isinstance(message, Stats)
    assert as_report(message.records) == sources
