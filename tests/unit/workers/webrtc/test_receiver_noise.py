"""Comfort noise of telephones (RFC 3389): its level, how it begins and ends, and no loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fakes.audio import level_db, pitch_hz, tone
from tests.fakes.incoming import CN, PCMA, PCMU, Call
from workers.audio import g711

if TYPE_CHECKING:
    from ipc.clock import ManualClock
    from tests.fakes.audio import Samples

SPEECH = [
    g711.encode("PCMU", np.asarray(frame, np.int16))
    for frame in tone(440, 4_000, hz=8_000).reshape(-1, 160)
]


def rms_dbov(samples: Samples) -> float:
    """Relative to a square wave of the highest level."""
    return 20 * float(np.log10(np.sqrt(np.mean(samples.astype(float) ** 2) + 1e-9) / 32_767))


class Telephone:
    """A caller with G.711 who pauses."""

    def __init__(self, clock: ManualClock, hz: int, channels: int = 1) -> None:
        self.call = Call(clock, hz, channels)
        self.number = self.ticks = 0

    def says(self, frames: int = 25) -> None:
        for frame in range(frames):
            self._packet(SPEECH[frame % 25], PCMU)
            self.ticks += 160
            self.call.wait(20)

    def pauses(self, ms: int, *levels: int, tail: bytes = b"") -> None:
        """One packet of comfort noise for each level, evenly over that time."""
        for level in levels:
            self._packet(bytes([level]) + tail, CN)
            self.ticks += ms // len(levels) * 8
            self.call.wait(ms // len(levels))

    def _packet(self, payload: bytes, kind: int) -> None:
        self.call.rtp(self.number, payload, kind=kind, timestamp=self.ticks)
        self.number += 1


@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("level", [20, 50, 70])
def test_a_pause_is_as_loud_as_its_sender_says(clock: ManualClock, hz: int, level: int) -> None:
    phone = Telephone(clock, hz)
    phone.says()
    phone.pauses(3_000, level)
    phone.says()
    heard = phone.call.heard()
    assert abs(len(heard) - 4 * hz) <= hz // 50, "a pause lasts as long as it lasts"
    assert abs(rms_dbov(heard[hz : 3 * hz]) + level) < 1
    spectrum = np.abs(np.fft.rfft(heard[hz : 3 * hz].astype(float))) ** 2
    assert spectrum[2 * 4_000 :].sum() < 0.02 * spectrum.sum(), "a telephone ends at 4 kHz"
    assert abs(pitch_hz(heard[-hz // 4 :], hz) - 440) < 5


def test_noise_is_neither_lost_nor_made_up(clock: ManualClock) -> None:
    phone = Telephone(clock, 16_000)
    phone.says()
    phone.pauses(2_000, 50, 52, 50, 52)
    phone.says()
    receiver, reorder = phone.call.receiver, phone.call.receiver.reorder
    assert (reorder.lost, reorder.concealed_ticks, reorder.broken) == (0, 0, 0)
    assert reorder.filled_ticks == receiver.paused_ticks > 1_900 * 8
    assert phone.call.receiver.ring is not None
    assert phone.call.receiver.ring.mic_concealed == 0


def test_a_caller_who_vanishes_is_no_pause(clock: ManualClock) -> None:
    phone = Telephone(clock, 16_000)
    phone.says()
    phone.call.wait(1_000)
    assert phone.call.receiver.paused_ticks == 0
    assert not np.any(phone.call.heard()[-8_000:])


def test_the_level_follows_the_newest_packet(clock: ManualClock) -> None:
    phone = Telephone(clock, 8_000)
    phone.says(5)
    phone.pauses(2_000, 30, 60)
    heard = phone.call.heard()
    assert abs(rms_dbov(heard[2_400:7_200]) + 30) < 1
    assert abs(rms_dbov(heard[-4_000:]) + 60) < 1


def test_noise_begins_and_ends_softly(clock: ManualClock) -> None:
    phone = Telephone(clock, 48_000)
    phone.says(10)
    phone.pauses(500, 20)
    silent = bytes([g711.SILENCE["PCMU"]]) * 160
    for _ in range(5):
        phone._packet(silent, PCMU)
        phone.ticks += 160
        phone.call.wait(20)
    heard = phone.call.heard()
    first = heard[200 * 48 : 220 * 48]
    assert level_db(first[:96]) < level_db(first[-480:]) - 6
    last = heard[-100 * 48 :]
    assert level_db(last[:480]) > level_db(last[480:960]) > level_db(last[4 * 480 :])
    assert level_db(last[-480:]) < -60


def test_a_loss_in_a_pause_is_not_a_word_from_before_it(clock: ManualClock) -> None:
    phone = Telephone(clock, 16_000)
    phone.says()
    phone.pauses(400, 60)
    phone.number += 1
    phone.pauses(400, 60)
    phone.says(5)
    heard = phone.call.heard()
    pause = heard[8_000 + 1_600 : 8_000 + 11_000].reshape(-1, 200)
    assert max(rms_dbov(piece) for piece in pause) < -55


def test_who_begins_with_a_pause_is_heard_like_that(clock: ManualClock) -> None:
    phone = Telephone(clock, 16_000)
    phone.pauses(500, 40)
    assert abs(rms_dbov(phone.call.heard()[-4_800:]) + 40) < 1


@pytest.mark.parametrize("payload", [b"", bytes([0xFF]), bytes([0x00]), bytes([60]) * 1_000])
def test_any_payload_is_taken(clock: ManualClock, payload: bytes) -> None:
    phone = Telephone(clock, 16_000, 2)
    phone.says(5)
    phone._packet(payload, CN)
    phone.ticks += 800
    phone.call.wait(100)
    phone.says(5)
    assert phone.call.receiver.malformed == 0
    left, right = phone.call.heard().reshape(-1, 2).T
    assert np.array_equal(left, right)


def test_the_static_number_needs_no_agreement(clock: ManualClock) -> None:
    phone = Telephone(clock, 16_000)
    receiver = phone.call.receiver
    receiver.start(None, phone.call.buffer, {PCMU: ("pcmu", 8_000), PCMA: ("pcma", 8_000)})  # type: ignore[arg-type]
    phone.says(5)
    phone.pauses(1_000, 45)
    assert abs(rms_dbov(phone.call.heard()[-8_000:]) + 45) < 1
