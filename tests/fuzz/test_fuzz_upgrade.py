"""Whatever comes to the callers' port: a WebSocket that was asked for, or an HTTP answer."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from workers.websocket.upgrade import MAX_TOKEN, Refusal, Wanted, read

HEADERS = [
    b"Host: here",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Sec-WebSocket-Version: 13",
]
targets = st.one_of(
    st.sampled_from(["/ws-client", "/ws", "/", "*", "http://here/ws", "//ws", "/ws-client/t"]),
    st.text(st.characters(codec="ascii", exclude_characters="\r\n "), max_size=60),
)
queries = st.one_of(
    st.just(""),
    st.builds("?token={}&rate={}&channels={}".format, st.text(max_size=20), st.text(), st.text()),
    st.text(max_size=200).map(lambda text: "?" + text),
)
lines = st.one_of(
    st.sampled_from(HEADERS),
    st.binary(max_size=80),
    st.builds(
        lambda name, value: name + b": " + value,
        st.sampled_from([b"Host", b"Origin", b"Authorization", b"Connection", b"Upgrade"]),
        st.binary(max_size=60),
    ),
)


def check(head: bytes) -> None:
    found = read(head)
    if isinstance(found, Refusal):
        first, _, body = found.serialize().partition(b"\r\n\r\n")
        assert first.startswith(f"HTTP/1.1 {found.status} ".encode())
        assert 400 <= found.status < 600
        assert set(json.loads(body)) == {"code", "detail"}
        assert len(body) < 2_000
    else:
        assert isinstance(found, Wanted)
        assert found.answer.status_code == 101
        assert len(found.token) <= MAX_TOKEN
        for text in (found.token, found.host, found.origin or ""):
            text.encode()


@given(st.binary(max_size=400))
def test_any_bytes_are_answered(data: bytes) -> None:
    check(data + b"\r\n\r\n")


@given(targets, queries, st.lists(lines, max_size=6), st.permutations(HEADERS))
def test_any_request_is_granted_or_refused_by_name(
    target: str, query: str, more: list[bytes], headers: list[bytes]
) -> None:
    line = b"GET " + f"{target}{query}".encode() + b" HTTP/1.1"
    check(b"\r\n".join([line, *headers, *more, b"", b""]))
