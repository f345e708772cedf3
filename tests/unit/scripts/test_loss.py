"""What the loss benchmarks make of packets: RED offered and unpacked, shares, gaps, delays."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.benchmarks import callers, light_peer, loss, speech
from scripts.benchmarks.recording import Heard
from tests.fakes import lossy_call
from tests.fakes.lossy_call import NS_PER_MS, Sound
from tests.fakes.network import Faults
from workers.audio import red
from workers.webrtc.sdp import Offer

OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 96 0",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789012345678901",
        f"a=fingerprint:sha-256 {':'.join(['0A'] * 32)}",
        "a=setup:actpass",
        "a=rtpmap:96 opus/48000/2",
        "a=rtpmap:0 PCMU/8000",
        "",
    ]
)
HEADER = bytes([0x80, 0, 0, 5]) + bytes(8)
START_NS = 10**12


def sound(samples: np.ndarray[tuple[int], np.dtype[np.int16]], late_ms: float = 0) -> Sound:
    chunks = samples.reshape(-1, 960)
    at_ns = START_NS + np.arange(len(chunks), dtype=np.int64) * 20 * NS_PER_MS
    return Sound(chunks, at_ns + round(late_ms * NS_PER_MS))


def test_an_offer_of_red_is_one_that_we_would_take() -> None:
    assert Offer.parse(OFFER).red_type is None
    assert Offer.parse(light_peer.offer_red(OFFER)).red_type == light_peer.RED_TYPE


def test_an_answer_without_its_red_is_as_if_there_had_been_none() -> None:
    assert light_peer.without_red(light_peer.offer_red(OFFER)) == OFFER
    assert light_peer.without_red(OFFER) == OFFER


def test_a_packet_is_its_payload_or_all_that_red_carries() -> None:
    assert callers._payloads(HEADER + b"plain") == [(0, b"plain")]
    carried = red.header([(96, 1920, 3), (96, 960, 2)], 96) + b"oldmeenew"
    packet = bytearray(HEADER + carried)
    packet[1] = light_peer.RED_TYPE | 0x80
    assert callers._payloads(bytes(packet)) == [(2, b"old"), (1, b"me"), (0, b"enew")]


def test_shares_count_what_came_in_a_later_packet_as_received_and_recovered() -> None:
    sequence = np.array([10, 11, 12, 13, 16, 17, 18, 19], np.int64)
    recovered = np.array([0, 0, 1, 0, 1, 0, 0, 0], np.int64)
    pcm = np.full((8, 960), 3000, np.int16)
    pcm[7] = 0
    heard = Heard(0, pcm, sequence, sequence, sequence, recovered=recovered)
    found = loss.shares(heard, due=10)
    assert (found.sent, found.received) == (1.0, 0.8)
    assert found.silent == pytest.approx(1 / 8)
    assert (found.lost, found.recovered) == (4, 0.5)


def test_nothing_heard_is_no_share() -> None:
    none = np.zeros(0, np.int64)
    heard = Heard(0, np.zeros((0, 960), np.int16), none, none, none)
    assert loss.shares(heard, due=10) == loss.Shares(0.0, 0.0, 0.0, 0.0, 0)


def test_silences_over_60_ms_are_found_and_shorter_ones_are_not() -> None:
    samples = speech.continuous()[: 960 * 100].copy()
    samples[960 * 10 : 960 * 13] = 0
    samples[960 * 50 : 960 * 60] = 0
    share, gaps = lossy_call.silences_ms(sound(samples), START_NS, START_NS + 2_000 * NS_PER_MS)
    assert share == pytest.approx(0.13)
    assert gaps == pytest.approx([200.0])


def test_sound_that_stops_coming_is_a_silence_too() -> None:
    heard = sound(speech.continuous()[: 960 * 50])
    share, gaps = lossy_call.silences_ms(heard, START_NS, START_NS + 2_000 * NS_PER_MS)
    assert share == pytest.approx(0.5)
    assert gaps == pytest.approx([1000.0])


def test_the_delay_of_what_is_heard_again_is_found() -> None:
    said = sound(speech.continuous()[: 960 * 150])
    heard = sound(speech.continuous()[: 960 * 150], late_ms=85)
    span = (START_NS + 1_000 * NS_PER_MS, START_NS + 3_000 * NS_PER_MS)
    assert lossy_call.delay_ms(heard, said, *span) == pytest.approx(85, abs=1)


def test_what_was_never_said_has_no_delay() -> None:
    said = sound(speech.continuous()[: 960 * 150])
    noise = np.random.default_rng(1).integers(-3000, 3000, 960 * 150).astype(np.int16)
    span = (START_NS + 1_000 * NS_PER_MS, START_NS + 3_000 * NS_PER_MS)
    assert lossy_call.delay_ms(sound(noise), said, *span) is None


async def test_a_caller_knows_what_redundancy_cannot_bring_back() -> None:
    peer = light_peer.LightPeer(0, lambda number, data, when: None, red_level=2)
    peer.impair(Faults(loss=0.5), seed=1)
    there, back = peer._there, peer._back
    assert there is not None
    assert back is not None
    there.counts.losses[:] = [3, 4, 5]
    peer.mark()
    there.counts.losses += [9, 10, 11, 20, 30, 31]
    assert peer.lost(2) == [(6, 1), (0, 0)]
    await peer.close()
