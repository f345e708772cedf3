"""A caller whose signaling goes through a bot that places its session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.sdk import Bot, Candidate, Session
from tests.fakes.caller import FakeCaller

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.audio import Samples
    from tests.fakes.bot import Events


class PlacedCaller(FakeCaller):
    """Offers to the bot, in its process; `session` is there after the first answer."""

    def __init__(
        self, bot: Bot, source: Callable[[int, int], Samples] | None = None, **options: Any
    ) -> None:
        self._placing = {name: options.pop(name) for name in ("connect_s",) if name in options}
        super().__init__("http://127.0.0.1", source, **options)
        self._bot = bot
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session that its first offer has placed."""
        assert self._session is not None, "the caller has not dialled"
        return self._session

    async def _ask(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        if method == "PATCH":
            found = [Candidate(**candidate) for candidate in body["candidates"]]
            await self.session.add_candidates(found)
            return {}
        if self._session is None:
            placed = await self._bot.open_webrtc(
                body["sdp"],
                body["type"],
                request_data=body.get("request_data"),
                **self._placing,
            )
            self._session, sdp, pc_id = placed
        else:
            sdp, pc_id = await self.session.renegotiate(body["sdp"], restart=body["restart_pc"])
        return {"sdp": sdp, "pc_id": pc_id}


def watch(session: Session) -> Events:
    """Write down what happens to a session, from its beginning."""
    events: Events = []
    session.on("peer", lambda state: events.append(("peer", state)))
    session.on("connected", lambda resumed: events.append(("connected", resumed)))
    session.on("disconnected", lambda reason: events.append(("disconnected", reason)))
    session.on("closed", lambda reason: events.append(("closed", reason)))
    session.on("message", lambda data: events.append(("message", data)))
    session.on("track", lambda index, enabled: events.append(("track", index, enabled)))
    return events


async def echo(session: Session) -> None:
    """Say back what is heard, until the session ends."""
    async for frame in session.audio():
        await session.play(frame)
