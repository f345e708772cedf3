"""Every way to libopus encodes what libopus decodes; parameters count; a reset forgets."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from ipc.codec import Application, Codec
from ipc.errors import ConfigError, StateError, WorkerError
from workers.audio import opus
from workers.audio.libraries import library_paths
from workers.audio.opus import MAX_PACKET_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
SILENCE = bytes.fromhex("f8fffe")
Pcm = np.ndarray[Any, np.dtype[np.int16]]


@pytest.fixture(autouse=True)
def _library_is_looked_up_anew() -> Iterator[None]:
    opus.libopus.cache_clear()
    yield
    opus.libopus.cache_clear()


def wheel_library() -> Path:
    spec = importlib.util.find_spec("av")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    found = [
        *(package.parent / "av.libs").glob("libopus*.so*"),
        *(package / ".dylibs").glob("libopus*.dylib"),
    ]
    if not found:
        pytest.skip("this PyAV carries no libopus")
    return found[0]


def system_library() -> Path:
    name = ctypes.util.find_library("opus")
    if name is None:
        pytest.skip("this system has no libopus")
    return Path(name)


@pytest.fixture(params=["wheel", "system", "pyav"])
def path_to_libopus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the three ways, and no other."""
    paths: list[Path] = []
    if request.param == "wheel":
        paths = [wheel_library()]
    elif request.param == "system":
        paths = [system_library()]
    monkeypatch.setattr(opus, "library_paths", lambda _name: paths)
    return str(request.param)


def library() -> ctypes.CDLL:
    found = opus.libopus()
    if found is None:
        pytest.skip("only PyAV has libopus here")
    return found


def tone(hz: int, frequency: float, frames: int = 50) -> Pcm:
    """A tone over speech-like noise: low-passed, swelling four times a second."""
    count = frames * hz // 50
    seconds = np.arange(count) / hz
    noise = np.convolve(np.random.default_rng(7).normal(size=count), np.ones(8) / 8, "same")
    swell = 0.5 + 0.5 * np.sin(2 * math.pi * 4 * seconds)
    return (9_000 * np.sin(2 * math.pi * frequency * seconds) + 900 * noise * swell).astype(
        np.int16
    )


def encoded(encoder: opus.Encoder, pcm: Pcm, hz: int, channels: int = 1) -> list[bytes]:
    out = (ctypes.c_char * MAX_PACKET_BYTES)()
    samples, stride = hz // 50, hz // 50 * channels * 2
    assert pcm.flags.c_contiguous
    packets = []
    for offset in range(0, pcm.nbytes - stride + 1, stride):
        written = encoder.encode(pcm.ctypes.data + offset, samples, out)
        packets.append(out.raw[:written])
    return packets


def decoded(packets: list[bytes], channels: int = 1) -> Pcm:
    """48 kHz samples by channel, from a decoder that is not under test."""
    decoder = av.AudioCodecContext.create("libopus", "r")
    decoder.sample_rate = 48_000
    decoder.layout = "mono" if channels == 1 else "stereo"
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    assert all(frame.samples == 960 for frame in frames)
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    return samples.reshape(-1, channels).T


def pitch(samples: Pcm) -> float:
    """The strongest frequency of the last half second at 48 kHz."""
    tail = samples[-24_000:].astype(float) * np.hanning(24_000)
    return float(np.argmax(np.abs(np.fft.rfft(tail))) * 2)


# -- where it comes from ------------------------------------------------------------------


def test_pyavs_library_comes_before_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = wheel_library()
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: "libopus.so.7")
    assert library_paths("opus") == [carried, Path("libopus.so.7")]


def test_a_system_without_libopus_leaves_pyavs(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = wheel_library()
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)
    assert library_paths("opus") == [carried]


def test_a_pyav_without_libopus_leaves_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: "libopus.so.7")
    assert library_paths("opus") == [Path("libopus.so.7")]


def test_what_is_missing_broken_or_no_libopus_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "libopus.so.0"
    broken.write_bytes(b"\x7fELF and nothing else")
    other = ctypes.util.find_library("c")
    useless = [tmp_path / "missing.so", broken, *([Path(other)] if other else [])]
    assert [opus.load(path) for path in useless] == [None] * len(useless)
    good = wheel_library()
    monkeypatch.setattr(opus, "library_paths", lambda _name: [*useless, good])
    found = opus.libopus()
    assert found is not None
    assert found._name == str(good)


def test_without_any_library_pyav_itself_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opus, "library_paths", lambda _name: [])
    assert isinstance(opus.encoder(48_000, 1, Codec()), opus.AvEncoder)


# -- what comes out -----------------------------------------------------------------------


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.usefixtures("path_to_libopus")
def test_mono_keeps_its_pitch_at_every_rate(hz: int) -> None:
    encoder = opus.encoder(hz, 1, Codec())
    packets = encoded(encoder, tone(hz, 440), hz)
    encoder.close()
    assert len(packets) == 50
    assert all(3 < len(packet) <= MAX_PACKET_BYTES for packet in packets)
    heard = decoded(packets)[0]
    assert len(heard) == 48_000
    assert pitch(heard) == pytest.approx(440, abs=2)
    assert np.abs(heard[-24_000:]).max() == pytest.approx(9_900, rel=0.25)


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.usefixtures("path_to_libopus")
def test_stereo_keeps_its_sides_apart_at_every_rate(hz: int) -> None:
    pcm = np.ascontiguousarray(np.stack([tone(hz, 440), tone(hz, 1_000)], axis=1))
    encoder = opus.encoder(hz, 2, Codec(bitrate_bps=96_000))
    packets = encoded(encoder, pcm, hz, 2)
    encoder.close()
    assert all(packet[0] & 0x04 for packet in packets)  # RFC 6716 section 3.1: s = stereo
    left, right = decoded(packets, 2)
    assert pitch(left) == pytest.approx(440, abs=2)
    assert pitch(right) == pytest.approx(1_000, abs=2)


def test_the_path_in_use_is_the_one_asked_for(path_to_libopus: str) -> None:
    encoder = opus.encoder(16_000, 1, Codec())
    kind = opus.AvEncoder if path_to_libopus == "pyav" else opus.LibraryEncoder
    assert type(encoder) is kind
    encoder.close()


@pytest.mark.parametrize("hz", RATES)
def test_low_delay_looks_two_and_a_half_milliseconds_ahead(hz: int) -> None:
    encoder = opus.LibraryEncoder(library(), hz, 1, Codec())
    assert encoder.lookahead * 1_000 / hz == 2.5
    encoder.close()


def test_silence_settles_to_the_packet_that_stands_for_it() -> None:
    encoder = opus.LibraryEncoder(library(), 48_000, 1, Codec())
    encoded(encoder, tone(48_000, 440), 48_000)
    packets = encoded(encoder, np.zeros(960 * 30, np.int16), 48_000)
    encoder.close()
    assert packets[-10:] == [SILENCE] * 10
    assert not decoded([SILENCE] * 5).any()


# -- parameters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"bitrate_bps": 5_999}, "5999"),
        ({"bitrate_bps": 510_001}, "510001"),
        ({"complexity": -1}, "-1"),
        ({"complexity": 11}, "11"),
        ({"application": "music"}, "music"),
        ({"expected_loss_percent": -1}, "expected_loss_percent"),
        ({"expected_loss_percent": 101}, "expected_loss_percent"),
        ({"fec": True}, "lowdelay"),
        ({"fec": True, "application": "lowdelay"}, "lowdelay"),
    ],
)
def test_what_libopus_would_refuse_or_ignore_is_a_config_error(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        Codec(**wrong)


def test_the_limits_themselves_are_taken() -> None:
    lowest = Codec(bitrate_bps=6_000, complexity=0, expected_loss_percent=0)
    highest = Codec(
        bitrate_bps=510_000, complexity=10, expected_loss_percent=100, fec=True, application="voip"
    )
    for params in (lowest, highest):
        encoder = opus.LibraryEncoder(library(), 48_000, 2, params)
        pcm = np.repeat(tone(48_000, 440, 3), 2)
        assert all(encoded(encoder, pcm, 48_000, 2))
        encoder.close()


def packets_of(params: Codec, hz: int = 48_000, pcm: Pcm | None = None) -> list[bytes]:
    encoder = opus.encoder(hz, 1, params)
    packets = encoded(encoder, tone(hz, 440) if pcm is None else pcm, hz)
    encoder.close()
    return packets


@pytest.mark.usefixtures("path_to_libopus")
def test_the_bitrate_is_what_was_asked_for() -> None:
    for bitrate_bps in (24_000, 96_000):
        packets = packets_of(Codec(bitrate_bps=bitrate_bps))
        assert sum(map(len, packets)) * 8 == pytest.approx(bitrate_bps, rel=0.3)


@pytest.mark.usefixtures("path_to_libopus")
def test_the_complexity_reaches_the_codec() -> None:
    low, high = (packets_of(Codec(complexity=level)) for level in (0, 10))
    assert low != high
    assert packets_of(Codec(complexity=10)) == high


@pytest.mark.usefixtures("path_to_libopus")
def test_the_application_chooses_between_silk_and_celt() -> None:
    speech = packets_of(Codec(application="voip", bitrate_bps=16_000), 16_000)
    low_delay = packets_of(Codec(bitrate_bps=16_000), 16_000)
    assert all(packet[0] >> 3 < 12 for packet in speech)  # RFC 6716 table 2: SILK
    assert all(packet[0] >> 3 >= 16 for packet in low_delay)  # CELT


@pytest.mark.parametrize("fec", [False, True])
@pytest.mark.usefixtures("path_to_libopus")
def test_fec_carries_the_packet_before(fec: bool) -> None:
    params = Codec(application="voip", bitrate_bps=24_000, fec=fec, expected_loss_percent=20)
    packets = packets_of(params, 16_000)[5:30]
    # RFC 6716 section 4.2.3: after the voice activity bit of a 20 ms packet comes the LBRR bit.
    assert sum(packet[1] >> 6 & 1 for packet in packets) == (len(packets) if fec else 0)


def test_dtx_shrinks_silence_to_a_header() -> None:
    library()
    silence = np.zeros(320 * 50, np.int16)
    quiet = packets_of(Codec(application="voip", dtx=True), 16_000, silence)
    steady = packets_of(Codec(application="voip"), 16_000, silence)
    assert min(map(len, quiet[25:])) <= 2
    assert min(map(len, steady)) > 2


def test_a_rate_that_opus_has_not_is_a_worker_error() -> None:
    with pytest.raises(WorkerError, match="refuses") as raised:
        opus.LibraryEncoder(library(), 44_100, 1, Codec())
    assert raised.value.code == "codec"


# -- an end and a new beginning -----------------------------------------------------------


@pytest.mark.parametrize("application", ["lowdelay", "voip"])
@pytest.mark.usefixtures("path_to_libopus")
def test_after_a_reset_it_encodes_like_a_fresh_one(application: Application) -> None:
    params = Codec(application=application)
    first, then = tone(24_000, 440, 20), tone(24_000, 700, 10)
    used, fresh, kept = (opus.encoder(24_000, 1, params) for _ in range(3))
    for encoder in (used, kept):
        encoded(encoder, first, 24_000)
    used.reset()
    wanted = encoded(fresh, then, 24_000)
    assert encoded(used, then, 24_000) == wanted
    assert encoded(kept, then, 24_000) != wanted
    for encoder in (used, fresh, kept):
        encoder.close()


@pytest.mark.usefixtures("path_to_libopus")
def test_closing_twice_is_harmless() -> None:
    encoder = opus.encoder(48_000, 1, Codec())
    encoder.close()
    encoder.close()


def test_closing_frees_the_state_once() -> None:
    encoder = opus.LibraryEncoder(library(), 48_000, 1, Codec())
    freed: list[int] = []

    class Counting:
        def __init__(self, real: ctypes.CDLL) -> None:
            self._real = real

        def opus_encoder_destroy(self, state: int) -> None:
            freed.append(state)
            self._real.opus_encoder_destroy(state)

    encoder._library = Counting(library())  # type: ignore[assignment]
    encoder.close()
    encoder.close()
    assert len(freed) == 1


@pytest.mark.parametrize("application", ["voip", "audio", "lowdelay"])
@pytest.mark.parametrize("hz", [8_000, 48_000])
def test_both_encoders_tell_the_same_look_ahead(application: Application, hz: int) -> None:
    params = Codec(application=application)
    ours = opus.LibraryEncoder(library(), hz, 1, params)
    assert ours.lookahead == opus.AvEncoder(hz, 1, params).lookahead
    ours.close()


def test_a_closed_encoder_refuses_to_encode_and_takes_a_reset() -> None:
    encoder = opus.LibraryEncoder(library(), 48_000, 1, Codec())
    encoder.close()
    encoder.reset()
    with pytest.raises(StateError):
        encoded(encoder, np.zeros(960, np.int16), 48_000)
