"""The tokens that let WebSocket callers in: each is good for one session.

`POST /start` gives one out with the data for the bot. It is unknown when it was not used in
time, and when the session that it was for has ended.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ipc.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.session import Session

# A page asks for its token when it is about to call.
UNUSED_S = 300.0
MAX_UNUSED = 4096


@dataclass(eq=False)
class Ticket:
    """What a token stands for."""

    token: str
    # Data for the bot as JSON: as objects it may take twenty times the room.
    packed: str
    until_s: float
    session: Session | None = None
    # Somebody is being let in with it at this moment.
    claiming: bool = False

    @property
    def data(self) -> Any:
        """Data for the bot."""
        return json.loads(self.packed)


class Tokens:
    """All tokens that are good. Those that nobody uses are bounded by number and time."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._unused: OrderedDict[str, Ticket] = OrderedDict()
        self._used: dict[str, Ticket] = {}

    def issue(self, data: Any) -> str:
        """A new token, good for 5 minutes until it is used. `data` is what JSON can hold."""
        now_s = self._now_s()
        ticket = Ticket(secrets.token_urlsafe(32), json.dumps(data), now_s + UNUSED_S)
        self._unused[ticket.token] = ticket
        while self._unused:  # the oldest stand first
            oldest = next(iter(self._unused.values()))
            if oldest.until_s >= now_s and len(self._unused) <= MAX_UNUSED:
                break
            del self._unused[oldest.token]
        return ticket.token

    def find(self, token: str) -> Ticket:
        """What this token stands for. Raises AuthError(`no_token` or `bad_token`)."""
        if not token:
            raise AuthError("give the token that POST /start has answered with", code="no_token")
        ticket = self._used.get(token) or self._unused.get(token)
        if ticket is None or (ticket.session is None and ticket.until_s < self._now_s()):
            raise AuthError(
                "this token is unknown, used up or too old; POST /start gives another",
                code="bad_token",
            )
        return ticket

    def use(self, ticket: Ticket, session: Session) -> None:
        """It belongs to this session now."""
        self._unused.pop(ticket.token, None)
        self._used[ticket.token] = ticket
        ticket.session = session

    def ended(self, ticket: Ticket) -> None:
        """Its session is over: it is good for no other."""
        self._used.pop(ticket.token, None)

    def give_back(self, ticket: Ticket) -> None:
        """Its caller was never in: it may still be used, as long as any other."""
        self._used.pop(ticket.token, None)
        ticket.session = None
        self._unused[ticket.token] = ticket
        self._unused.move_to_end(ticket.token, last=False)
