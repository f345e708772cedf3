"""What the routes need of an engine. They ask for it with each request: a router may be
mounted before the engine has started."""

from __future__ import annotations

from typing import Protocol

from engine.bots import Bots
from engine.sessions import Sessions
from engine.supervisor import Supervisor


class Parts(Protocol):
    """The parts of a running engine. Raises StateError(`engine_not_running`) when it is not."""

    @property
    def sessions(self) -> Sessions:
        """Every session, and all decisions about them."""
        ...

    @property
    def supervisor(self) -> Supervisor:
        """The workers."""
        ...

    @property
    def bots(self) -> Bots:
        """The bots."""
        ...
