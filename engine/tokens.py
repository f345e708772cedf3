"""The tokens that let WebSocket callers in: each is good for one session.

`POST /start` gives one out with the data for the bot. It is unknown when it was not used in
time, and when the session that it was for has ended.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.issued import Entry, Issued
from ipc.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.session import Session

# A page asks for its token when it is about to call.
UNUSED_S = 300.0
MAX_UNUSED = 4096
MAX_UNUSED_OF_ONE = 512


@dataclass(eq=False)
class Ticket:
    """What a token stands for."""

    # Data for the bot as JSON: as objects it may take twenty times the room.
    packed: str
    until_s: float
    token: str = ""
    session: Session | None = None
    # How it was issued, while it is in use.
    entry: Entry[Ticket] | None = None
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
        self._unused: Issued[Ticket] = Issued(
            MAX_UNUSED, MAX_UNUSED_OF_ONE, kept_s=UNUSED_S, lasts_s=UNUSED_S, now_s=now_s
        )
        self._used: dict[str, Ticket] = {}

    def issue(self, data: Any, client: str) -> str:
        """A new token for the address `client`, good for 5 minutes until it is used.

        `data` is what JSON can hold. Raises RateLimited or LimitError, both `too_many_tokens`.
        """
        ticket = Ticket(json.dumps(data), self._now_s() + UNUSED_S)
        ticket.token = self._unused.add(client, ticket)
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
        ticket.entry = self._unused.take(ticket.token)
        self._used[ticket.token] = ticket
        ticket.session = session

    def ended(self, ticket: Ticket) -> None:
        """Its session is over: it is good for no other."""
        self._used.pop(ticket.token, None)

    def give_back(self, ticket: Ticket) -> None:
        """Its caller was never in: it may still be used, as long as any other."""
        self._used.pop(ticket.token, None)
        ticket.session = None
        if ticket.entry is not None:
            self._unused.put_back(ticket.token, ticket.entry)
