"""The benchmarks' speech, what counts as audible and whole, and what a flush looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from scripts.benchmarks import flush, flush_log, memory, speech, wire
from scripts.benchmarks.flush_log import Timings
from scripts.benchmarks.job import Job
from scripts.benchmarks.recording import Heard, Recording

if TYPE_CHECKING:
    from pathlib import Path

MS = 1_000_000
BEGIN_NS = 10**12
OFFSET_NS = 1_800_000_000_000_000_000


@pytest.mark.parametrize("hz", [16_000, 24_000, 48_000])
def test_speech_has_no_pause_and_whole_frames(hz: int) -> None:
    samples = speech.continuous(hz)
    assert len(samples) % (hz // 50) == 0
    assert len(samples) > 2 * hz
    assert speech.frames_db(samples, hz // 50).min() > speech.PAUSE_DB - 6


def test_packets_are_speech_of_20_ms_each() -> None:
    packets = speech.packets()
    assert len(packets) >= len(speech.continuous()) // 960 - 2
    assert 30 < np.mean([len(packet) for packet in packets]) < 200
    decoder = speech.Decoder()
    heard = np.concatenate([decoder.decode(packet) for packet in packets[:20]])
    assert heard.shape == (20 * 960,)
    assert np.abs(heard).max() > 1000


def test_the_signal_after_a_flush_begins_loudly() -> None:
    signal = speech.known_signal()
    assert len(signal) == 20 * 960
    assert abs(int(signal[0])) > 1000


def test_silence_and_the_codecs_overlap_are_not_audible() -> None:
    packet = np.zeros(960, np.int16)
    assert not flush.audible(packet)
    packet[:240] = 5000
    assert not flush.audible(packet)
    packet[240:] = 1000
    assert flush.audible(packet)


def test_whole_speech_is_found_wherever_it_begins() -> None:
    signal = speech.known_signal()
    heard = np.concatenate([np.zeros(1234, np.int16), signal, np.zeros(3000, np.int16)])
    assert flush.is_whole(signal, heard)


def test_speech_without_its_first_20_ms_is_not_whole() -> None:
    signal = speech.known_signal()
    torn = np.concatenate([np.zeros(960 + 1234, np.int16), signal[960:], np.zeros(3000, np.int16)])
    assert not flush.is_whole(signal, torn)


def test_speech_with_a_hole_is_not_whole() -> None:
    signal = speech.known_signal()
    torn = signal.copy()
    torn[9600:10560] = 0
    assert not flush.is_whole(signal, np.concatenate([torn, np.zeros(3000, np.int16)]))


def _flushed(last_audible: int) -> list[flush.Cut]:
    """100 packets each way of a flush at 1 s, audible up to number `last_audible`."""
    signal = speech.known_signal().reshape(-1, 960)
    pcm = np.zeros((120, 960), np.int16)
    pcm[: last_audible + 1] = 3000
    pcm[65:85] = signal
    heard = Heard(
        3,
        pcm,
        np.arange(120, dtype=np.int64),
        OFFSET_NS + BEGIN_NS + np.arange(120, dtype=np.int64) * 20 * MS,
        np.full(120, 100, np.int64),
    )
    begin, end = (wire.ClockOffset(BEGIN_NS + at, OFFSET_NS, 0) for at in (0, 2400 * MS))
    none = np.zeros(0, np.int64)
    seen = Recording([], none, none, begin, end, [heard], {})
    at = BEGIN_NS + 1001 * MS  # just after packet 50
    return flush.cuts(
        seen,
        [
            Timings(3, 900.0, at, at + 10_000, BEGIN_NS + 1290 * MS),
            Timings(9, 900.0, at, at, at),  # no probe
            Timings(3, 900.0, BEGIN_NS + 2300 * MS, 0, BEGIN_NS + 2390 * MS),  # too near the end
        ],
    )


def test_a_flush_whose_last_audible_packet_left_before_it_took_no_time() -> None:
    (cut,) = _flushed(last_audible=50)
    assert (cut.latency_ms, cut.later_packets, cut.whole) == (0.0, 0, True)
    assert cut.call_us == pytest.approx(10)


def test_a_packet_that_follows_a_flush_is_its_latency() -> None:
    (cut,) = _flushed(last_audible=51)
    assert cut.latency_ms == pytest.approx(19)
    assert cut.later_packets == 1


def test_flushes_are_read_as_they_were_written(tmp_path: Path) -> None:
    with flush_log.FlushLog(tmp_path, 4) as log:
        timings = Timings(caller=4, queued_ms=980.0)
        timings.before()
        timings.after()
        timings.resumed()
        log.write(timings)
    (tmp_path / "flush-1-5.jsonl").write_text('{"caller": 5, "bef')  # being written
    assert flush_log.read(tmp_path) == [timings]


def test_a_job_travels_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(mode="both", burn=0.5, hz=16_000, codec={"complexity": 5})
    monkeypatch.setenv("BENCH_JOB", job.environment()["BENCH_JOB"])
    assert Job.from_environment() == job


def test_shared_segments_are_counted_once_each(tmp_path: Path) -> None:
    smaps = tmp_path / "smaps"
    smaps.write_text(
        "7f00-7f10 rw-s 00000000 00:18 2  /dev/shm/bb0123abcd (deleted)\n"
        "Size:                564 kB\nRss:  100 kB\n"
        "7f20-7f30 rw-p 00000000 00:00 0 \nSize:    99 kB\n"
        "7f40-7f50 rw-s 00000000 00:18 3  /dev/shm/psm_other\nSize:    88 kB\n"
    )
    assert memory.segments_of(smaps) == {"bb0123abcd": 564 * 1024}
