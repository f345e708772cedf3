"""Echoes, and does what the caller tells it: blocks its loop, fails, reports what it lost."""

import threading
from typing import Any

from engine.sdk import Bot, Session

bot = Bot("obedient", mic_hz=16_000, speaker_hz=16_000)


@bot.session
async def obey(session: Session) -> None:
    told: dict[str, Any] = {}
    lost = gaps = cursor = 0
    session.on("message", told.update)
    async for frame in session.audio():
        lost += frame.lost
        gaps += frame.cursor != cursor
        cursor = frame.cursor + frame.count
        if (seconds := told.pop("block", None)) is not None:
            session.send({"blocking": seconds})
            threading.Event().wait(seconds)  # what a careless bot does to its loop
            session.send({"blocked": seconds})
        if told.pop("fail", None) is not None:
            raise RuntimeError("told to fail")
        if told.pop("report", None) is not None:
            session.send({"lost": lost, "gaps": gaps, "cursor": cursor})
        await session.play(frame)
