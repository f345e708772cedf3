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
from engine.sdk.flushes import Flushed
from engine.sdk.marks import Mark
from engine.sdk.placing import Placed
from engine.sdk.playable import Played
from engine.sdk.rtvi import Rtvi
from engine.sdk.session import Session
from engine.sdk.websocket import WebsocketSession
from ipc.codec import Codec
from ipc.ice_server import IceServer
from ipc.messages import Candidate
from ipc.samples import AudioFrame
from ipc.sound_file import SoundFile
from ipc.websocket import Reconnect

__all__ = [
    "AudioFrame",
    "Bot",
    "Candidate",
    "Codec",
    "Flushed",
    "IceServer",
    "Mark",
    "Placed",
    "Played",
    "Reconnect",
    "Rtvi",
    "Session",
    "SoundFile",
    "WebsocketSession",
]
