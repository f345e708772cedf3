"""Speaks a recorded sentence, stops when it is interrupted, and hangs up when it has spoken.

The recording is 24 kHz mono, so the bot asks for a speaker ring of 24 kHz: no resampling.
"""

import asyncio
import wave
from pathlib import Path

import numpy as np

from engine.sdk import Bot, Session

SPEECH = Path(__file__).with_name("hello.wav")
FAREWELL = {"type": "text", "text": "That was all. Call again!"}

bot = Bot("talk", capacity=50, speaker_hz=24_000)


def read(path: Path) -> np.ndarray:
    """A 16-bit mono WAV file's samples."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


@bot.session
async def talk(session: Session) -> None:
    """Serve one call: any message interrupts the sentence."""
    interrupted = False

    @session.on("message")
    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        session.flush()

    await session.play(read(SPEECH))
    session.end_of_speech()
    await session.wait_played()
    # What has left is heard a moment later: the caller's side keeps a jitter buffer.
    await asyncio.sleep(0.5)
    session.send(FAREWELL if not interrupted else {"type": "text", "text": "You interrupted me."})


if __name__ == "__main__":
    bot.run()
