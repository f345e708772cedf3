"""Names that were given out and not used yet: nobody who asks for many takes those of others.

At most `limit` in all and `share` for one client. A name that is younger than `kept_s` is never
given up for another: whoever asks for one more is refused.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ipc.errors import LimitError, RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
NAME_BYTES = 32


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What a name stands for, since when, and who asked for it."""

    value: T
    since_s: float
    client: str


class Issued(Generic[T]):
    """Values by secret names, the oldest first."""

    def __init__(
        self,
        limit: int,
        share: int,
        *,
        kept_s: float,
        lasts_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Names are good for `lasts_s`, and after `kept_s` only while there is room."""
        self._limit = limit
        self._share = share
        self._kept_s = kept_s
        self._lasts_s = lasts_s
        self._now_s = now_s
        self._entries: OrderedDict[str, Entry[T]] = OrderedDict()
        self._of: dict[str, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, client: str, value: T) -> str:
        """A new name for `value`, asked for by the address `client`.

        Raises RateLimited or LimitError, both `too_many_tokens`.
        """
        client = _network_of(client)
        self._forget_old()
        mine = self._of.get(client, ())
        if len(mine) >= self._share:
            self._give_up(
                next(iter(mine)),
                RateLimited(
                    f"{self._share} calls were announced from your address and not made; "
                    "make them, or wait",
                    code="too_many_tokens",
                ),
            )
        elif len(self._entries) >= self._limit:
            self._give_up(
                next(iter(self._entries)),
                LimitError(
                    "too many calls are announced and not made; try again in a moment",
                    code="too_many_tokens",
                ),
            )
        name = secrets.token_urlsafe(NAME_BYTES)
        self._entries[name] = Entry(value, self._now_s(), client)
        self._of.setdefault(client, OrderedDict())[name] = None
        return name

    def get(self, name: str) -> T | None:
        """What the name stands for, while it is good."""
        entry = self._entries.get(name)
        return None if entry is None or self._is_old(entry) else entry.value

    def take(self, name: str) -> Entry[T] | None:
        """It is used: it takes no room here any more."""
        return self._drop(name)

    def put_back(self, name: str, entry: Entry[T]) -> None:
        """It was not used after all, and is as good as it was."""
        self._entries[name] = entry
        self._entries.move_to_end(name, last=False)
        self._of.setdefault(entry.client, OrderedDict())[name] = None

    def _is_old(self, entry: Entry[T]) -> bool:
        return entry.since_s + self._lasts_s < self._now_s()

    def _forget_old(self) -> None:
        while self._entries:
            oldest = next(iter(self._entries))
            if not self._is_old(self._entries[oldest]):
                return
            self._drop(oldest)

    def _give_up(self, name: str, refusal: LimitError) -> None:
        if self._entries[name].since_s + self._kept_s >= self._now_s():
            raise refusal
        self._drop(name)

    def _drop(self, name: str) -> Entry[T] | None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            mine = self._of[entry.client]
            del mine[name]
            if not mine:
                del self._of[entry.client]
        return entry


def _network_of(address: str) -> str:
    """Who counts as one client: an IPv6 host has as many addresses as it likes."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a socket of another kind
        return address
    if ip.version == 4:
        return address
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 64), strict=False))
