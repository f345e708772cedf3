"""Requests for a WebSocket: which are granted what, and how the others are answered."""

from __future__ import annotations

import json

import pytest

from workers.websocket.upgrade import Refusal, Wanted, read

HEADERS = {
    "Host": "here:7861",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}


def request(target: str, method: str = "GET {} HTTP/1.1", /, **changes: str | None) -> bytes:
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    headers = {**HEADERS, **named}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([method.format(target), *lines, "", ""]).encode("latin-1")


def granted(target: str, **changes: str | None) -> Wanted:
    found = read(request(target, **changes))
    assert isinstance(found, Wanted), found
    return found


def test_pipecats_client_speaks_protobuf_hears_24_khz_and_gets_no_interruption() -> None:
    wanted = granted("/ws-client?token=abc")
    websocket = wanted.websocket
    assert (websocket.wire, websocket.out_hz, websocket.out_channels) == ("protobuf", 24_000, 1)
    assert not websocket.interruptions
    assert not websocket.wav_header
    assert (wanted.token, wanted.host, wanted.origin) == ("abc", "here:7861", None)
    assert wanted.answer.status_code == 101
    assert not wanted.answer.headers.get_all("Sec-WebSocket-Extensions")


@pytest.mark.parametrize(
    ("target", "hz", "channels"),
    [
        ("/ws", 16_000, 1),
        ("/ws?rate=8000", 8_000, 1),
        ("/ws?channels=2&rate=48000&else=1", 48_000, 2),
    ],
)
def test_raw_pcm_is_the_same_both_ways(target: str, hz: int, channels: int) -> None:
    websocket = granted(target).websocket
    assert websocket.wire == "raw_pcm"
    assert (websocket.in_hz, websocket.in_channels) == (hz, channels)
    assert (websocket.out_hz, websocket.out_channels) == (hz, channels)
    assert websocket.interruptions


def test_the_token_is_found_wherever_clients_put_it() -> None:
    assert granted("/ws-client?x=1&token=a%2Bb").token == "a+b"
    assert granted("/ws-client/behind").token == "behind"
    assert granted("/ws", Authorization="bearer carried").token == "carried"
    assert granted("/ws", Authorization="Basic carried").token == ""
    assert len(granted("/ws?token=" + 1_000 * "x").token) == 256


def test_a_page_says_where_it_is_from() -> None:
    assert granted("/ws", Origin="https://a.example").origin == "https://a.example"


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (request("/"), 404, "not_found"),
        (request("/ws-client/a/b"), 404, "not_found"),
        (request("http://here/ws"), 404, "not_found"),
        (request("//ws"), 404, "not_found"),
        (request("/ws?rate=7999"), 400, "rate"),
        (request("/ws?rate=١٦٠٠٠".encode().decode("latin-1")), 400, "malformed"),
        (request("/ws?rate=%D9%A1"), 400, "rate"),
        (request("/ws?rate=47999"), 400, "rate"),
        (request("/ws?rate=16000.0"), 400, "rate"),
        (request("/ws?channels=3"), 400, "channels"),
        (request("/ws?" + "a=1&" * 100), 400, "malformed"),
        (request("/ws", Upgrade=None), 426, "not_a_websocket"),
        (request("/ws", Sec_WebSocket_Version="8"), 400, "not_a_websocket"),
        (request("/ws", Sec_WebSocket_Key="short"), 400, "not_a_websocket"),
        (request("/ws", "POST {} HTTP/1.1"), 405, "not_a_websocket"),
        (request("/ws", "GET {} HTTP/1.0"), 505, "not_a_websocket"),
        (request("/ws", Host=None), 400, "malformed"),
        (request("/ws", Content_Length="5"), 400, "malformed"),
        (request("/ws", Transfer_Encoding="chunked"), 400, "malformed"),
        (request("/ws", Connection="Upgrade" + 200 * ", a"), 431, "too_large"),
        (request("/ws", Sec_WebSocket_Protocol="a" + 200 * ", a"), 431, "too_large"),
        (request("/ws?" + 2_050 * "a"), 414, "too_large"),
        (b"nonsense\r\n\r\n", 400, "malformed"),
        (b"\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed"),
    ],
)
def test_everything_else_is_refused_by_a_status_and_a_code(
    head: bytes, status: int, code: str
) -> None:
    found = read(head)
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (status, code)
    lines, _, body = found.serialize().partition(b"\r\n\r\n")
    assert lines.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"Content-Length: {len(body)}".encode() in lines
    assert json.loads(body) == {"code": code, "detail": found.detail}
