"""Decoding at the bot's rate, what a loss sounds like, and packets that are none."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ipc.codec import Codec
from workers.audio import decoder as decoders
from workers.audio import g711, opus
from workers.audio.decoder import AvOpusDecoder, Decoder, G711Decoder, OpusDecoder, decoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN = Codec()
SPEECH_LIKE = Codec(application="voip", bitrate_bps=32_000, fec=True, expected_loss_percent=20)


def tone(hz: int, frames: int, frequency: float = 440.0) -> NDArray[np.int16]:
    times = np.arange(frames * hz // 50) / hz
    wave = np.sin(2 * np.pi * frequency * times) * np.linspace(0.4, 0.9, len(times))
    return np.asarray(20_000 * wave, np.int16)


def packets(
    samples: NDArray[np.int16], hz: int = 48_000, codec: Codec | None = None
) -> list[bytes]:
    encoder = opus.encoder(hz, 1, codec or Codec())
    out = (ctypes.c_char * 1_275)()
    made = []
    for frame in samples.reshape(-1, hz // 50):
        frame = np.ascontiguousarray(frame)
        count = encoder.encode(frame.ctypes.data, len(frame), out)
        made.append(out.raw[:count])
    encoder.close()
    return made


def level(samples: NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(samples.astype(float) ** 2)))


def decoded(into: Decoder, data: bytes, channels: int = 1) -> NDArray[np.int16]:
    count = into.decode(data, len(data))
    return into.pcm[: count * channels].copy()


def opus_decoder(hz: int = 48_000, channels: int = 1) -> OpusDecoder:
    made = decoder("opus", hz, channels)
    assert isinstance(made, OpusDecoder)
    return made


# -- Opus ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_comes_out_at_every_rate(hz: int, channels: int) -> None:
    into = opus_decoder(hz, channels)
    heard = np.concatenate([decoded(into, data, channels) for data in packets(tone(48_000, 50))])
    heard = heard.reshape(-1, channels)[:, -1]
    assert len(heard) == hz
    spectrum = np.abs(np.fft.rfft(heard[hz // 10 :]))
    assert abs(np.argmax(spectrum) * hz / len(heard[hz // 10 :]) - 440) < 3
    into.close()
    into.close()


def test_a_packet_is_read_where_it_lies() -> None:
    data = packets(tone(48_000, 2))[1]
    buffer = bytearray(b"header" + data + b"trailer")
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) + 6
    into, other = opus_decoder(), opus_decoder()
    count = into.decode(address, len(data))
    assert count == 960
    assert np.array_equal(into.pcm[:count], decoded(other, data))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x03\xff\xff", b"\x00" * 1_500])
def test_what_is_no_packet_is_told_and_harms_nothing(data: bytes) -> None:
    into = opus_decoder()
    good = packets(tone(48_000, 10))
    for packet in good[:5]:
        decoded(into, packet)
    assert into.decode(data, len(data)) in range(5_761)
    assert all(len(decoded(into, packet)) == 960 for packet in good[5:])


def test_concealment_carries_the_tone_on_and_fades_to_nothing_in_100_ms() -> None:
    into = opus_decoder()
    for data in packets(tone(48_000, 25)):
        before = level(decoded(into, data))
    levels = []
    for _ in range(7):
        assert into.conceal(960) == 960
        levels.append(level(into.pcm[:960]))
    assert levels[0] > before / 4
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0


def test_after_a_packet_concealment_begins_at_full_level_again() -> None:
    into = opus_decoder()
    data = packets(tone(48_000, 30))
    for packet in data[:20]:
        decoded(into, packet)
    for _ in range(8):
        into.conceal(960)
    for packet in data[20:]:
        decoded(into, packet)
    into.conceal(960)
    assert level(into.pcm[:960]) > 1_000


def test_redundancy_brings_the_lost_packet_back() -> None:
    sent = tone(16_000, 60)
    data = packets(sent, 16_000, SPEECH_LIKE)
    into, whole = opus_decoder(16_000), opus_decoder(16_000)
    recovered, loud = 0, 0.0
    for number, packet in enumerate(data):
        reference = decoded(whole, packet)
        if number % 10 == 5:
            continue
        if number % 10 == 6:
            count = into.recover(packet, len(packet), 320)
            recovered += count == 320
            if count:
                assert level(into.pcm[:count]) == pytest.approx(loud, rel=0.5)
        decoded(into, packet)
        loud = level(reference)
    assert recovered >= 4


def test_celt_has_no_redundancy_and_says_so() -> None:
    into = opus_decoder()
    data = packets(tone(48_000, 3))
    assert [into.recover(packet, len(packet), 960) for packet in data] == [0, 0, 0]
    assert into.recover(b"", 0, 960) == 0


def test_a_library_too_old_to_know_redundancy_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    into = opus_decoder(16_000)
    monkeypatch.setattr(into, "_has_redundancy", None)
    for packet in packets(tone(16_000, 5), 16_000, SPEECH_LIKE):
        assert into.recover(packet, len(packet), 320) == 0


def test_odd_lengths_are_concealed_in_whole_steps_of_2_5_ms() -> None:
    into = opus_decoder()
    decoded(into, packets(tone(48_000, 1))[0])
    assert into.conceal(961) == 960
    assert into.conceal(100) == 0
    assert into.conceal(10**6) == 5_760


def test_without_libopus_pyav_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packets(tone(48_000, 50))
    monkeypatch.setattr(opus, "libopus", lambda: None)
    into = decoder("opus", 24_000, 1)
    assert isinstance(into, AvOpusDecoder)
    heard = np.concatenate([decoded(into, packet) for packet in data])
    assert abs(len(heard) - 24_000) <= 480
    spectrum = np.abs(np.fft.rfft(heard[4_800:]))
    assert abs(np.argmax(spectrum) * 24_000 / len(heard[4_800:]) - 440) < 3
    assert into.decode(b"\xff\xff\xff", 3) in range(2_881)
    assert into.conceal(480) == 480
    assert into.recover(data[0], len(data[0]), 480) == into.comfort(480) == 0


# -- G.711 --------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_every_code_is_the_middle_of_what_is_encoded_as_it(law: g711.Law) -> None:
    table = g711.decoding_table(law)
    codes = np.arange(256, dtype=np.uint8)
    again = np.frombuffer(g711.encode(law, table), np.uint8)
    # µ-law has two codes for zero, and only one of them is ever written.
    assert np.all((again == codes) | (np.abs(table) < 8))
    samples = np.arange(-32_000, 32_000, 7).astype(np.int16)
    back = table[np.frombuffer(g711.encode(law, samples), np.uint8)].astype(int)
    assert np.all(np.abs(back - samples) <= 20 + np.abs(samples.astype(int)) // 16)


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_g711_comes_out_at_every_rate(law: g711.Law, hz: int, channels: int) -> None:
    into = decoder(law, hz, channels)
    assert into.clock_hz == 8_000
    sent = tone(8_000, 50)
    heard = np.concatenate(
        [decoded(into, g711.encode(law, frame), channels) for frame in sent.reshape(-1, 160)]
    ).reshape(-1, channels)[:, 0]
    assert abs(len(heard) - hz) <= hz // 50
    spectrum = np.abs(np.fft.rfft(heard[hz // 10 :]))
    assert abs(np.argmax(spectrum) * hz / len(heard[hz // 10 :]) - 440) < 3


def test_g711_repeats_the_last_packet_ever_softer() -> None:
    into = G711Decoder("PCMU", 8_000, 1)
    assert into.conceal(160) == 160
    assert level(into.pcm[:160]) == 0
    decoded(into, g711.encode("PCMU", tone(8_000, 1)))
    levels = []
    for _ in range(7):
        into.conceal(160)
        levels.append(level(into.pcm[:160]))
    assert levels[0] > 5_000
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0


@pytest.mark.parametrize("hz", [8_000, 12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_first_packet_of_g711_is_as_long_as_any(hz: int, channels: int) -> None:
    into = decoder("PCMU", hz, channels)
    first = decoded(into, g711.encode("PCMU", tone(8_000, 1)), channels)
    assert len(first) == channels * hz // 50
    assert level(first[len(first) // 2 :]) > 5_000


@pytest.mark.parametrize("length", [0, 961, 1_500])
def test_g711_of_no_sensible_length_is_refused(length: int) -> None:
    into = G711Decoder("PCMA", 8_000, 1)
    assert into.decode(bytes(length), length) == 0


def test_a_fade_is_the_same_for_both_channels() -> None:
    fade = decoders.Fade(48_000, 2)
    pcm = np.full(2 * 960, 10_000, np.int16)
    fade.apply(pcm)
    pairs = pcm.reshape(-1, 2)
    assert np.array_equal(pairs[:, 0], pairs[:, 1])
    assert pairs[0, 0] > pairs[-1, 0] > 0
