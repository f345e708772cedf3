"""How a control message becomes bytes, and what is refused when they are read.

On the wire a message is one msgpack map `{"v": 1, "t": type, ...}`; a request also has
`id`, its reply has `re` with the same number. Unknown fields are ignored, unknown types are
refused with a code, and size and depth are limited. Samples never travel here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
import msgspec

from ipc.errors import (
    BackbeatError,
    MalformedMessage,
    MessageTooLarge,
    UnknownMessage,
    VersionMismatch,
)
from ipc.messages import AppMessage, Message

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_ITEMS = 65_536

TYPES: dict[str, type[Message]] = {
    str(cls.__struct_config__.tag): cls for cls in Message.__subclasses__()
}


class Envelope(NamedTuple):
    """A message with the request number it carries (`request`) or answers (`reply_to`)."""

    message: Message
    request: int | None
    reply_to: int | None


class Unreadable(Exception):
    """Bytes that are no message for us; `request` tells whom the refusal answers."""

    def __init__(self, error: BackbeatError, request: int | None, is_failure: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.request = request
        self.is_failure = is_failure


def check_data(data: object) -> None:
    """Refuse foreign data that would not fit into a message. Raises ProtocolError."""
    try:
        decode(encode(AppMessage(session="", data=data)))
    except Unreadable as unreadable:
        raise unreadable.error from None


def encode(message: Message, request: int | None = None, reply_to: int | None = None) -> bytes:
    """The message as bytes. Raises MessageTooLarge, or MalformedMessage for foreign types."""
    fields: dict[str, Any] = {"v": PROTOCOL_VERSION}
    try:
        # Keys become text as in JSON: `decode` takes no others.
        fields.update(msgspec.to_builtins(message, builtin_types=(bytes,), str_keys=True))
        if request is not None:
            fields["id"] = request
        if reply_to is not None:
            fields["re"] = reply_to
        data: bytes = msgpack.packb(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedMessage(f"the message cannot be written as msgpack: {error}") from error
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(f"{len(data)} bytes are over the limit of {MAX_MESSAGE_BYTES}")
    return data


def decode(data: bytes) -> Envelope:
    """Read one message. Raises only `Unreadable`."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise Unreadable(
            MessageTooLarge(f"{len(data)} bytes are over the limit of {MAX_MESSAGE_BYTES}"),
            None,
            False,
        )
    try:
        fields = msgpack.unpackb(
            data, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS, ext_hook=_no_extension
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise Unreadable(MalformedMessage("these bytes are not msgpack"), None, False) from error
    if not isinstance(fields, dict):
        raise Unreadable(MalformedMessage("a message is a msgpack map"), None, False)
    request, reply_to = _number(fields.get("id")), _number(fields.get("re"))
    is_failure = fields.get("t") == "failure"
    try:
        return Envelope(_read(fields), request, reply_to)
    except BackbeatError as error:
        raise Unreadable(error, request, is_failure) from error


def _read(fields: dict[str, Any]) -> Message:
    if fields.get("v") != PROTOCOL_VERSION:
        raise VersionMismatch(
            f"this engine speaks version {PROTOCOL_VERSION} of the protocol, "
            f"the message says {fields.get('v')!r}"[:200]
        )
    kind = fields.get("t")
    cls = TYPES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise UnknownMessage(f"no message has the type {kind!r}"[:200])
    if _unfit(fields):
        raise MalformedMessage(
            f"a message nests at most {MAX_DEPTH} levels and holds no timestamps"
        )
    try:
        return msgspec.convert(fields, cls)
    except (msgspec.ValidationError, RecursionError) as error:
        raise MalformedMessage(f"{kind}: {error}"[:300]) from error


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _no_extension(code: int, _data: bytes) -> None:
    raise ValueError(f"extension type {code} is not part of the protocol")


_INNER = (dict, list, msgpack.Timestamp)


def _unfit(fields: dict[str, Any]) -> bool:
    level: list[Any] = [fields]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            items = value.values() if isinstance(value, dict) else value
            inner.extend(item for item in items if isinstance(item, _INNER))
        if not inner:
            return False
        # msgpack makes timestamps itself: they never reach the hook for extensions.
        if any(isinstance(item, msgpack.Timestamp) for item in inner):
            return True
        level = inner
    return True
