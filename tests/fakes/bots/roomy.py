"""The echo demo with room for every test of a module at once."""

from engine.sdk import Bot, Session

bot = Bot("roomy", capacity=1000)


@bot.session
async def echo(session: Session) -> None:
    async for frame in session.audio():
        await session.play(frame)
