"""The smallest useful bot: says back what it hears, in sound and in text."""

from engine.sdk import Bot, Session

bot = Bot("echo")


@bot.session
async def echo(session: Session) -> None:
    """Echo one call."""

    @session.on("message")
    def reply(data: object) -> None:
        session.send(_reply(data))

    async for frame in session.audio():
        await session.play(frame)


def _reply(data: object) -> object:
    if isinstance(data, dict) and data.get("type") == "text":
        return {"type": "text", "text": f"echo: {data.get('text', '')}"}
    return data


if __name__ == "__main__":
    bot.run()
