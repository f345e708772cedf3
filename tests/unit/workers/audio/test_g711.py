"""G.711 as the ITU has it: known bytes, a decoder of the test's own, every rate in."""

from __future__ import annotations

import ctypes
import math
from typing import Any, get_args

import numpy as np
import pytest

from workers.audio import g711

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
LAWS: tuple[g711.Law, ...] = get_args(g711.Law)
Pcm = np.ndarray[Any, np.dtype[np.int16]]


def decode_ulaw(code: int) -> int:
    """One byte to 16 bits, written from G.711 table 2 and not from the encoder."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def decode_alaw(code: int) -> int:
    """One byte to 16 bits, from G.711 table 1."""
    code ^= 0x55
    segment, step = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = step + 8 if segment == 0 else step + 0x108 << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


DECODE = {"PCMU": decode_ulaw, "PCMA": decode_alaw}


def decoded(law: g711.Law, payload: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    table = np.array([DECODE[law](code) for code in range(256)], np.int64)
    return table[np.frombuffer(payload, np.uint8)]


def encode_at(encoder: g711.Encoder, pcm: Pcm, hz: int) -> list[bytes]:
    out = (ctypes.c_char * 1_275)()
    samples = hz // 50
    packets = []
    for start in range(0, len(pcm) - samples + 1, samples):
        written = encoder.encode(pcm.ctypes.data + 2 * start, samples, out)
        packets.append(out.raw[:written])
    return packets


def tone(hz: int, frequency: float, frames: int = 50) -> Pcm:
    seconds = np.arange(frames * hz // 50) / hz
    return (9_000 * np.sin(2 * math.pi * frequency * seconds)).astype(np.int16)


def pitch(samples: np.ndarray[Any, Any]) -> float:
    """The strongest frequency of the last half second at 8 kHz."""
    return float(np.argmax(np.abs(np.fft.rfft(samples[-4_000:] * np.hanning(4_000)))) * 2)


@pytest.mark.parametrize(
    ("law", "vector"),
    [
        # What Python's audioop gave for these samples up to 3.12 (its own test suite).
        ("PCMU", "ffad8e0e80007e"),
        ("PCMA", "d587a424aa2a55"),
    ],
)
def test_known_samples_give_known_bytes(law: g711.Law, vector: str) -> None:
    samples = np.array([0, 0x1234, 0x4567, -0x4567, 0x7FFF, -0x8000, -1], np.int16)
    assert g711.encode(law, samples).hex() == vector


@pytest.mark.parametrize("law", LAWS)
def test_silence_is_the_byte_that_receivers_know(law: g711.Law) -> None:
    payload = g711.encode(law, np.zeros(160, np.int16))
    assert payload == bytes([g711.SILENCE[law]]) * 160
    assert payload[0] == {"PCMU": 0xFF, "PCMA": 0xD5}[law]
    assert abs(DECODE[law](payload[0])) <= 8


@pytest.mark.parametrize(
    ("law", "code", "value"),
    # The ends and the first decision values of the ITU's tables, in 16 bits.
    [
        ("PCMU", 0x80, 32_124),
        ("PCMU", 0x00, -32_124),
        ("PCMU", 0xFF, 0),
        ("PCMU", 0xEF, 132),
        ("PCMA", 0xAA, 32_256),
        ("PCMA", 0x2A, -32_256),
        ("PCMA", 0xD5, 8),
        ("PCMA", 0x55, -8),
    ],
)
def test_the_test_has_the_itus_decoder_and_the_encoder_inverts_it(
    law: g711.Law, code: int, value: int
) -> None:
    assert DECODE[law](code) == value
    assert g711.encode(law, np.array([value], np.int16)) == bytes([code])


@pytest.mark.parametrize("law", LAWS)
def test_what_was_decoded_encodes_to_itself(law: g711.Law) -> None:
    values = np.array([DECODE[law](code) for code in range(256)], np.int16)
    codes = bytearray(range(256))
    if law == "PCMU":
        codes[0x7F] = 0xFF  # minus zero has no int16
    assert g711.encode(law, values) == bytes(codes)


@pytest.mark.parametrize("law", LAWS)
def test_every_sample_comes_back_within_its_quantum(law: g711.Law) -> None:
    samples = np.arange(-32_768, 32_768, dtype=np.int64)
    back = decoded(law, g711.encode(law, samples.astype(np.int16)))
    error = np.abs(back - samples)
    # 4 mantissa bits after a leading one: half a step is 1/32 of a segment's beginning, plus
    # the smallest step (8 or 16) and what the last segment clips.
    inside = np.abs(samples) <= 32_000
    assert (error[inside] <= np.abs(samples[inside]) / 32 + 16).all()
    assert error.max() <= 32_768 - 32_124
    assert (np.diff(back) >= 0).all()


@pytest.mark.parametrize("law", LAWS)
def test_the_two_signs_mirror_each_other(law: g711.Law) -> None:
    samples = np.arange(32, 32_000, 16, dtype=np.int16)
    if law == "PCMA":
        samples += 3  # off the decision values, which belong to one side only
    plus, minus = (np.frombuffer(g711.encode(law, s), np.uint8) for s in (samples, -samples))
    assert (plus ^ minus == 0x80).all()


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.parametrize("law", LAWS)
def test_every_rate_gives_160_bytes_of_the_same_pitch(law: g711.Law, hz: int) -> None:
    encoder = g711.Encoder(law, hz)
    packets = encode_at(encoder, tone(hz, 440), hz)
    encoder.close()
    assert [len(packet) for packet in packets] == [160] * 50
    heard = decoded(law, b"".join(packets))
    assert pitch(heard) == pytest.approx(440, abs=2)
    assert np.abs(heard[-4_000:]).max() == pytest.approx(9_000, rel=0.06)


@pytest.mark.parametrize("hz", [16_000, 48_000])
def test_frames_join_without_a_seam(hz: int) -> None:
    heard = decoded("PCMU", b"".join(encode_at(g711.Encoder("PCMU", hz), tone(hz, 440), hz)))
    tail = heard[800:]
    # A 440 Hz tone of 9000 moves by at most 3110 a sample at 8 kHz; the law adds its quanta.
    assert np.abs(np.diff(tail)).max() < 3_110 + 2 * 9_000 / 32


def test_what_lies_above_four_kilohertz_is_gone() -> None:
    heard = decoded(
        "PCMU", b"".join(encode_at(g711.Encoder("PCMU", 48_000), tone(48_000, 6_000), 48_000))
    )
    assert np.abs(heard[-4_000:]).max() < 300


@pytest.mark.parametrize("hz", RATES)
def test_after_a_reset_nothing_rings_on(hz: int) -> None:
    encoder, fresh, kept = (g711.Encoder("PCMU", hz) for _ in range(3))
    for one in (encoder, kept):
        encode_at(one, tone(hz, 1_000, 7), hz)
    encoder.reset()
    then = tone(hz, 300, 3)
    wanted = encode_at(fresh, then, hz)
    assert encode_at(encoder, then, hz) == wanted
    if hz != g711.HZ:
        assert encode_at(kept, then, hz) != wanted


def test_reset_and_close_may_come_at_any_time() -> None:
    encoder = g711.Encoder("PCMA", 24_000)
    encoder.reset()
    encoder.close()
    encoder.close()
    assert encoder.lookahead == 0
