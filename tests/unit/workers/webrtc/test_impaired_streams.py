"""A stream that wraps, changes its source or codec, pauses, or is damaged: rows Q8, Q9, Q10."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipc.codec import Codec
from tests.fakes.audio import FRAME, Samples, level_db
from tests.fakes.impaired import OPUS, PCMU, SSRC, Impaired, speech
from tests.fakes.network import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipc.clock import ManualClock

MOST_RESTART_MS = 60.0
NOISE_DB = -60.0
MOST_NOISE_ERROR_DB = 3.0


@pytest.fixture
def call(clock: ManualClock) -> Iterator[Impaired]:
    call = Impaired(clock)
    yield call
    call.close()


# -- wrap-around, another source, another codec ---------------------------------------------


@pytest.mark.parametrize(
    ("sequence", "timestamp"), [(65_500, 7), (100, 2**32 - 40 * FRAME), (65_500, 2**32 - 36 * 960)]
)
def test_numbers_that_wrap_around_are_heard_exactly(
    clock: ManualClock, sequence: int, timestamp: int
) -> None:
    faults = Faults(reorder=0.1, held_ms=20, duplicate=0.05)
    heard = []
    for first in ((100, 7), (sequence, timestamp)):
        call = Impaired(clock, faults, seed=8, sequence=first[0], timestamp=first[1])
        call.say(speech(3))
        call.wait(60)
        heard.append((call.heard(), call.played(), call.reorder.lost, call.reorder.restarts))
        call.close()
    assert np.array_equal(heard[0][0], heard[1][0])
    assert heard[0][1:] == heard[1][1:] == (list(range(150)), 0, 0)


def test_another_source_is_heard_within_60_ms_of_its_first_packet(call: Impaired) -> None:
    call.say(speech(1))
    call.speak_as(Codec(), 9_000, 77_777, ssrc=SSRC + 1)
    call.say(speech(1))
    after = [event for event in call.of("play") if event.number >= 50]
    assert (after[0].at_ns - call.sent_ns[50]) / 1e6 <= MOST_RESTART_MS
    assert [event.number for event in after] == list(range(after[0].number, 100))
    assert {delay for number, delay in call.delays_ms().items() if number >= 55} == {0}
    assert call.reorder.concealed_ticks == 0


def test_another_source_after_a_pause_is_heard_from_its_first_packet_on(call: Impaired) -> None:
    call.say(speech(1))
    call.wait(300)
    call.speak_as(Codec(), 9_000, 77_777, ssrc=SSRC + 1)
    call.say(speech(1))
    assert call.played() == list(range(100))
    assert call.reorder.concealed_ticks == 0


def test_another_codec_and_back_is_heard_from_its_first_packet_on(call: Impaired) -> None:
    call.say(speech(1))
    for kind in (PCMU, OPUS):
        packet = call.packet
        call.speak_as(Codec(), packet.sequence, packet.timestamp, kind=kind)
        call.say(speech(1))
    assert call.played() == list(range(150))
    assert set(call.delays_ms().values()) == {0}
    assert call.reorder.concealed_ticks == 0
    assert abs(call.cursor - 150 * FRAME) <= FRAME
    for part in np.array_split(call.heard(), 3):
        assert level_db(part) == pytest.approx(level_db(speech(1)), abs=2)


# -- pauses -------------------------------------------------------------------------------


def noise(seconds: float, db: float = NOISE_DB) -> Samples:
    """The background of a room: noise of that level, less of it above 2 kHz."""
    rng = np.random.default_rng(3)
    white = rng.normal(0, 1, round(seconds * 48_000) + 64)
    soft = np.convolve(white, np.hanning(24), "same")[: round(seconds * 48_000)]
    peak = 32_767 * 10 ** (db / 20) / np.sqrt(2)
    return np.asarray(soft / soft.std() * peak, np.int16)


def pause_as_browsers_do(call: Impaired) -> list[int]:
    """Of packets without sound only the first leaves, and the others have no number."""
    left_out: list[int] = []
    shorts = [0]

    def drops(number: int) -> bool:
        shorts[0] = shorts[0] + 1 if len(call.payloads[number]) <= 2 else 0
        if shorts[0] > 1:
            left_out.append(number)
            return True
        return False

    def renumber(data: bytes) -> bytes:
        (sequence,) = struct.unpack_from("!H", data, 2)
        return data[:2] + struct.pack("!H", sequence - len(left_out) & 0xFFFF) + data[4:]

    call.drops, call.damage = drops, renumber
    return left_out


def test_a_sender_that_pauses_is_no_loss_and_its_room_stays_as_loud_as_it_is(
    clock: ManualClock,
) -> None:
    call = Impaired(clock, codec=Codec(application="voip", bitrate_bps=24_000, dtx=True))
    left_out = pause_as_browsers_do(call)
    room = noise(11)
    said = speech(2)
    sound = room.copy()
    for start in (0, 8 * 48_000):
        sound[start : start + len(said)] += said
    call.say(sound)
    call.close()

    assert len(left_out) > 150, "the sender did pause"
    reorder = call.reorder
    assert (reorder.lost, reorder.concealed_ticks, reorder.late) == (0, 0, 0)
    assert call.cursor == pytest.approx(len(call.payloads) * FRAME, abs=3 * FRAME)
    heard = call.heard()
    should = level_db(room[4 * 48_000 : 7 * 48_000])
    there = level_db(heard[4 * 48_000 : 7 * 48_000])
    assert there == pytest.approx(should, abs=MOST_NOISE_ERROR_DB)
    seconds = [level_db(heard[s * 24_000 : (s + 1) * 24_000]) for s in range(6, 15)]
    assert max(seconds) - min(seconds) <= 2 * MOST_NOISE_ERROR_DB, "it does not pump"
    assert level_db(heard[8 * 48_000 : 10 * 48_000]) == pytest.approx(level_db(said), abs=2)


def test_a_bot_of_ours_that_pauses_is_no_loss(clock: ManualClock) -> None:
    call = Impaired(clock, codec=Codec(dtx=True))
    call.say(speech(1))
    call.beat(100)  # its ring is empty: nothing is sent
    call.say(speech(1))
    call.close()
    assert len(call.payloads) < 130
    assert (call.reorder.lost, call.reorder.concealed_ticks) == (0, 0)
    assert call.played() == sorted(call.played())
    assert call.cursor == pytest.approx(200 * FRAME, abs=4 * FRAME)


# -- damage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "broken"), [("empty", 0), ("one byte", 1), ("cut", 2), ("random", 3)]
)
def test_damaged_payloads_are_counted_and_the_stream_goes_on(
    call: Impaired, name: str, broken: int
) -> None:
    rng = random.Random(broken)

    def damage(data: bytes) -> bytes:
        if len(call.payloads) % 5:
            return data
        head, payload = data[:12], data[12:]
        choices = (b"", payload[:1], payload[: len(payload) // 2], rng.randbytes(len(payload)))
        return head + choices[broken]

    call.damage = damage
    call.say(speech(6))
    call.wait(40)
    assert call.receiver.reorder.received == 300
    whole = [number for number in range(300) if (number + 1) % 5]
    assert [number for number in call.played() if (number + 1) % 5] == whole
    # A random first byte may name another length (2.5 to 120 ms); else each packet has its 20 ms.
    if name != "random":
        assert abs(call.cursor - 300 * FRAME) <= 2 * FRAME
    assert call.reorder.broken == 60 if name == "empty" else call.reorder.broken <= 60
    assert call.receiver.malformed == 0


def test_headers_cut_short_are_counted_and_the_stream_goes_on(call: Impaired) -> None:
    cut = [1, 2, 11, 12]
    for length in cut:
        call.say(speech(0.2))
        call.give(struct.pack("!BBHII", 0x80, OPUS, 1, 1, SSRC)[:length])
    call.say(speech(0.2))
    assert call.played() == list(range(50))
    assert call.receiver.malformed == 3
