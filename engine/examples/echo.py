"""The smallest useful bot: says back what it hears, in sound and in text."""

from engine.sdk import Bot, Session

MAX_QUEUED_S = 0.04
bot = Bot("echo")


@bot.session
async def echo(session: Session) -> None:
    """Echo one call."""

    @session.on("message")
    def reply(data: object) -> None:
        session.send(_reply(data))

    async for frame in session.audio():
        # What came in a bunch is played in a bunch, and the echo would stay behind for good.
        if session.queued <= MAX_QUEUED_S * session.speaker_hz:
            await session.play(frame)


def _reply(data: object) -> object:
    if isinstance(data, dict) and data.get("type") == "text":
        return {"type": "text", "text": f"echo: {data.get('text', '')}"}
    return data


if __name__ == "__main__":
    bot.run()
