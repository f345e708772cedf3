"""How long to wait before a process that keeps ending is started again."""

from __future__ import annotations

LOWEST_S = 0.1
HIGHEST_S = 5.0
# Whoever ran this long was well: its next end begins the waiting anew.
WELL_AFTER_S = 10.0


class Backoff:
    """Doubles from 0.1 to 5 s with every short life in a row."""

    def __init__(self) -> None:
        self.failures = 0

    def ended(self, lived_s: float) -> float:
        """A process ended after `lived_s`; the seconds until the next may start."""
        self.failures = 0 if lived_s > WELL_AFTER_S else self.failures + 1
        if self.failures == 0:
            return 0.0
        return min(HIGHEST_S, LOWEST_S * 2.0 ** min(self.failures - 1, 10))
