"""The fake network does what it was told to, and the same again with the same seed."""

from __future__ import annotations

import itertools
import statistics

import pytest

from tests.fakes.network import NS_PER_MS, NS_PER_S, Faults, Network

FRAME_NS = 20 * NS_PER_MS


def through(faults: Faults, count: int = 5_000, *, seed: int = 3) -> list[tuple[int, float]]:
    """What comes of a packet of 100 bytes each 20 ms: (number, ms that it took), as it comes."""
    network = Network(faults, seed)
    arrived = []
    for step in range(count * 10 + 5_000):
        now_ns = step * 2 * NS_PER_MS
        if step % 10 == 0 and step < count * 10:
            network.send((step // 10).to_bytes(100, "big"), now_ns)
        for data in network.due(now_ns):
            number = int.from_bytes(data, "big")
            arrived.append((number, (now_ns - number * FRAME_NS) / NS_PER_MS))
    assert network.next_ns is None
    assert network.counts.delivered == len(arrived)
    assert network.counts.sent == count
    return arrived


def lengths_of_losses(arrived: list[tuple[int, float]]) -> list[int]:
    numbers = [number for number, _ in arrived]
    return [b - a - 1 for a, b in itertools.pairwise(numbers) if b - a > 1]


def test_without_faults_everything_comes_at_once_and_in_order() -> None:
    assert through(Faults(), 100) == [(number, 0) for number in range(100)]


def test_the_same_seed_gives_the_same_faults_and_another_one_others() -> None:
    faults = Faults(loss=0.1, burst=3, delay_ms=50, jitter_ms=20, reorder=0.05, duplicate=0.05)
    assert through(faults, 500) == through(faults, 500)
    assert through(faults, 500) != through(faults, 500, seed=4)


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_losses_are_as_many_as_asked_and_independent(loss: float) -> None:
    arrived = through(Faults(loss=loss))
    assert 1 - len(arrived) / 5_000 == pytest.approx(loss, rel=0.2)
    assert statistics.mean(lengths_of_losses(arrived)) == pytest.approx(1 / (1 - loss), rel=0.1)


@pytest.mark.parametrize(("loss", "burst"), [(0.05, 3.0), (0.3, 4.0)])
def test_bursts_are_as_long_as_asked(loss: float, burst: float) -> None:
    arrived = through(Faults(loss=loss, burst=burst), 20_000)
    assert 1 - len(arrived) / 20_000 == pytest.approx(loss, rel=0.15)
    assert statistics.mean(lengths_of_losses(arrived)) == pytest.approx(burst, rel=0.15)


def test_jitter_has_its_deviation_and_keeps_the_order() -> None:
    arrived = through(Faults(delay_ms=100, jitter_ms=10))
    assert [number for number, _ in arrived] == list(range(5_000))
    took = [ms for _, ms in arrived]
    assert statistics.mean(took) == pytest.approx(102, abs=2)  # seen each 2 ms
    assert statistics.stdev(took) == pytest.approx(10, rel=0.15)


def test_jitter_that_need_not_keep_the_order_does_not() -> None:
    arrived = through(Faults(delay_ms=100, jitter_ms=30, keeps_order=False))
    numbers = [number for number, _ in arrived]
    assert numbers != sorted(numbers)
    assert sorted(numbers) == list(range(5_000))


def test_what_is_held_back_is_overtaken_and_nothing_else_is() -> None:
    arrived = through(Faults(delay_ms=10, reorder=0.02, held_ms=30))
    held = [number for number, ms in arrived if ms == 40]
    assert len(held) / 5_000 == pytest.approx(0.02, rel=0.3)
    others = [number for number, _ in arrived if number not in held]
    assert others == sorted(others)


def test_some_come_twice() -> None:
    arrived = through(Faults(duplicate=0.1))
    assert len(arrived) / 5_000 == pytest.approx(1.1, rel=0.02)
    assert {number for number, _ in arrived} == set(range(5_000))


def test_a_slow_link_delays_and_its_full_queue_drops() -> None:
    network = Network(Faults(rate_bps=80_000, queue_bytes=1_000))  # 100 bytes in 10 ms
    for number in range(20):
        network.send(bytes([number]) * 100, 0)
    assert (network.counts.lost, network.counts.dropped) == (0, 10)
    assert network.next_ns == 10 * NS_PER_MS
    assert network.due(95 * NS_PER_MS) == [bytes([number]) * 100 for number in range(9)]
    assert len(network.due(NS_PER_S)) == 1
    network.send(b"x", NS_PER_S)
    assert network.next_ns == NS_PER_S + NS_PER_MS // 10


def test_faults_change_while_packets_are_on_their_way() -> None:
    network = Network(Faults(delay_ms=50))
    network.send(b"slow", 0)
    network.faults = Faults(loss=1)
    network.send(b"gone", 0)
    network.faults = Faults()
    assert network.due(50 * NS_PER_MS) == [b"slow"]
    assert network.counts.losses == [1]


@pytest.mark.parametrize(
    "faults",
    [{"loss": 1.1}, {"reorder": -0.1}, {"burst": 0.5}, {"delay_ms": -1}, {"loss": 0.9, "burst": 2}],
)
def test_what_no_link_can_do_is_refused(faults: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"share|burst"):
        Faults(**faults)  # type: ignore[arg-type]
