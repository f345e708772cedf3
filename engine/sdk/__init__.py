"""The Python client of the bot API.

from engine.sdk import Bot

bot = Bot("echo")

@bot.session
async def echo(session):
    async for frame in session.audio():
        await session.play(frame)

bot.run()
"""

from engine.sdk.bot import Bot
from engine.sdk.marks import Mark
from engine.sdk.session import Session
from engine.sdk.speech import Flushed, Played
from ipc.frames import AudioFrame

__all__ = ["AudioFrame", "Bot", "Flushed", "Mark", "Played", "Session"]
