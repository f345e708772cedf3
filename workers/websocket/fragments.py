"""A message that comes in fragments, RFC 6455 section 5.4, until its last one is there.

Nobody waits for the rest of a text that can be none. Bytes in, a message out.
"""

from __future__ import annotations

import codecs

UTF8 = codecs.getincrementaldecoder("utf-8")


class Fragments:
    """What has come of one message. Takes no more room than its bytes, however many they are."""

    def __init__(self, *, text: bool) -> None:
        """The first frame says whether it is `text`."""
        self.data = bytearray()
        self._utf8 = UTF8() if text else None

    def add(self, part: bytes, *, last: bool) -> None:
        """The next one. Raises UnicodeDecodeError when no text goes on, or ends, like this."""
        self.data += part
        if self._utf8 is not None:
            self._utf8.decode(part, last)

    def message(self) -> str | bytes:
        """The message, once the last one was added."""
        return bytes(self.data) if self._utf8 is None else self.data.decode()
