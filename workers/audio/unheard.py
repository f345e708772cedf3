"""What stands in for an encoder while the peer does not listen: packets of no bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

    from ipc.codec import Codec


class Unheard:
    """The same calls as an encoder's, at no cost."""

    lookahead = 0

    def encode(self, address: int, samples: int, out: ctypes.Array[ctypes.c_char]) -> int:
        """Nothing is written."""
        return 0

    def configure(self, params: Codec) -> bool:
        """There is nothing to configure."""
        return True

    def reset(self) -> None:
        """Nothing is known that could be forgotten."""

    def close(self) -> None:
        """Nothing is held."""
