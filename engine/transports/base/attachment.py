"""One end's hold on the client that it shares with the other end of its transport.

What an end could not take it does not give back: that would be the other end's hold.
"""

from __future__ import annotations

from typing import Protocol


class Shared(Protocol):
    """A client that counts its users."""

    async def connect(self) -> None:
        """One user more."""
        ...

    async def disconnect(self) -> None:
        """One user less; the last one ends the call."""
        ...


class Attachment:
    """`take` connects, `let_go` disconnects; both may be called again."""

    def __init__(self, client: Shared) -> None:
        self._client = client
        self.held = False

    async def take(self) -> None:
        """Connect, unless that was done. Raises what the client's `connect` does."""
        if not self.held:
            await self._client.connect()
            self.held = True

    async def let_go(self) -> None:
        """Disconnect, if it is connected."""
        if self.held:
            self.held = False
            await self._client.disconnect()
