"""The bots that are shipped as models do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.fakes.audio import loud_frames, read_wav, silence_source, tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess
from tests.support import DEADLINE_S

if TYPE_CHECKING:
    from tests.fakes.audio import Samples

EXAMPLES = Path(__file__).resolve().parents[2] / "engine" / "examples"


def _envelope(samples: Samples) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The loudness of each 20 ms."""
    frames = samples[: len(samples) // 960 * 960].reshape(-1, 960).astype(float)
    return np.asarray(np.sqrt((frames**2).mean(axis=1)), float)


async def test_talk_speaks_its_whole_recording_and_hangs_up(runtime_dir: Path) -> None:
    spoken = _envelope(read_wav(EXAMPLES / "hello.wav"))
    # All of it is queued at once: the speech has no hole where the bot's process stands still.
    options = ("--bot", "engine.examples.talk:bot", "--speaker-ms", "10000")
    async with (
        ServeProcess(runtime_dir, *options) as serve,
        FakeCaller((await serve.settled()).url, silence_source()) as caller,
    ):
        await caller.until(lambda: caller.left, "the bot hangs up")
        heard = _envelope(caller.heard())
    heard = np.concatenate((heard, np.zeros(len(spoken))))
    start = int(np.correlate(heard - heard.mean(), spoken - spoken.mean(), "valid").argmax())
    same = np.corrcoef(heard[start : start + len(spoken)], spoken)[0, 1]
    assert same > 0.9, f"what was heard resembles the recording by {same:.2f} only"
    assert {"type": "text", "text": "That was all. Call again!"} in caller.messages


async def test_talk_stops_in_the_middle_when_it_is_interrupted(runtime_dir: Path) -> None:
    async with (
        ServeProcess(runtime_dir, "--bot", "engine.examples.talk:bot") as serve,
        FakeCaller((await serve.settled()).url, silence_source()) as caller,
    ):
        await caller.until(lambda: loud_frames(caller.heard()) > 25, "half a second of speech")
        await caller.until(lambda: caller.channel_open, "the data channel opens")
        caller.send({"type": "text", "text": "stop"})
        await caller.until(lambda: caller.left, "the bot hangs up")
        whole = loud_frames(read_wav(EXAMPLES / "hello.wav"))
        assert loud_frames(caller.heard()) < whole - 50, "a second of it was not spoken"
        assert {"type": "text", "text": "You interrupted me."} in caller.messages


async def test_an_echo_bot_without_the_sdk_returns_sound_and_messages(serve: ServeProcess) -> None:
    plain = [sys.executable, str(EXAMPLES / "plain_zmq_echo.py"), serve.endpoint]
    with subprocess.Popen(plain) as bot:
        try:
            await serve.settled()
            async with FakeCaller(serve.url, tone_source(440, db=-12)) as caller:
                await caller.hears(440, db=-12, within_db=1.0, seconds=1.0)
                await caller.until(lambda: caller.channel_open, "the data channel opens")
                caller.send({"type": "text", "text": "hello"})
                await caller.until(
                    lambda: {"type": "text", "text": "hello"} in caller.messages, "the echo"
                )
        finally:
            bot.terminate()
            bot.wait(DEADLINE_S)


def test_the_bot_without_the_sdk_fits_into_80_lines() -> None:
    assert len((EXAMPLES / "plain_zmq_echo.py").read_text().splitlines()) <= 80
