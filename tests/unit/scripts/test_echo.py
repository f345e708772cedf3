"""What the benchmarks make of an echo: its delay, and what of it came back through losses."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.benchmarks import echo, loss, speech
from scripts.benchmarks.recording import Heard

PACKET = 960
CODEC_SAMPLES = 120
NS_PER_MS = 1_000_000


def probe(late_packets: int, late_ms: float, *, lost: range = range(0)) -> Heard:
    """A caller whose packets come back so many packets later, `late_ms` after their turn."""
    count = 100
    sent = np.array([np.arange(count) % len(speech.packets()), np.arange(count) * 20 * NS_PER_MS])
    said = echo.decoded(sent[0]).astype(np.int16)
    delayed = np.concatenate((np.zeros(late_packets * PACKET + CODEC_SAMPLES, np.int16), said))
    numbers = np.array([number for number in range(count) if number not in lost])
    pcm = delayed[: count * PACKET].reshape(-1, PACKET)[numbers]
    arrival_ns = sent[1][numbers] + round(late_ms * NS_PER_MS)
    return Heard(0, pcm, numbers + 65_500 & 0xFFFF, arrival_ns, numbers * 0 + 80, sent)


@pytest.mark.parametrize(("packets", "ms"), [(1, 3.5), (4, 0.5), (12, 19.0)])
def test_the_delay_of_an_echo_is_found_to_the_packet(packets: int, ms: float) -> None:
    seen = probe(packets, ms)
    took = echo.of_probe(seen, seen.arrival_ns)
    assert len(took) > 50
    assert set(took) == {packets * 20 + ms}


def test_what_was_never_sent_is_not_found() -> None:
    seen = probe(2, 1.0)
    noise = np.random.default_rng(1).integers(-9_000, 9_000, seen.pcm.shape).astype(np.int16)
    other = Heard(0, noise, seen.sequence, seen.arrival_ns, seen.payload_bytes, seen.sent)
    assert echo.of_probe(other, seen.arrival_ns) == []


def test_shares_count_what_left_what_came_and_what_was_silent() -> None:
    seen = probe(5, 0.0, lost=range(40, 50))  # the first five packets of an echo are silent
    found = loss.shares(seen, 100)
    assert found.sent == 1
    assert found.received == pytest.approx(0.9)
    assert found.silent == pytest.approx(5 / 90)


def test_of_a_caller_who_heard_nothing_all_is_missing() -> None:
    none = np.zeros(0, np.int64)
    heard = Heard(0, np.zeros((0, PACKET), np.int16), none, none, none)
    assert loss.shares(heard, 100) == loss.Shares(0, 0, 0, 0, 0)
