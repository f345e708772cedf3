"""The base of every control message: how its type is called on the wire."""

from __future__ import annotations

import re

import msgspec


def _tag(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Message(msgspec.Struct, kw_only=True, tag_field="t", tag=_tag, omit_defaults=True):
    """Base of all messages."""
