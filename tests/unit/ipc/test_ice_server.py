"""STUN and TURN servers: the forms they may have, and errors that say what to write."""

from __future__ import annotations

from typing import Any

import pytest
from aiortc.rtcicetransport import parse_stun_turn_uri

from ipc.errors import ConfigError
from ipc.ice_server import IceServer
from ipc.messages import Offer
from ipc.wire import decode, encode

TURN = {"urls": "turn:turn.example", "username": "ada", "credential": "swordfish"}


@pytest.mark.parametrize(
    "url", ["stun:stun.example", "stun:192.0.2.1:3478", "stun:my-host_1.example:19302"]
)
def test_a_bare_url_is_a_stun_server(url: str) -> None:
    assert IceServer.of(url) == IceServer(urls=[url])
    assert parse_stun_turn_uri(url)["scheme"] == "stun"
    assert IceServer.of(f" {url} ").as_w3c() == {"urls": [url]}


@pytest.mark.parametrize(
    "url",
    ["turn:h", "turn:h:3479", "turn:h?transport=udp", "turn:h:1?transport=tcp", "turns:h:443"],
)
def test_a_turn_server_comes_with_a_name_and_a_secret(url: str) -> None:
    text = f'{{"urls": ["{url}"], "username": "ada", "credential": "swordfish"}}'
    server = IceServer.of(text)
    assert (server.urls, server.username, server.credential) == ([url], "ada", "swordfish")
    assert parse_stun_turn_uri(url)["host"] == "h"
    with pytest.raises(ConfigError, match=r"needs a user name and a credential.*credential"):
        IceServer.of(url)


def test_what_json_and_toml_hold_is_taken_as_it_is() -> None:
    server = IceServer.of(TURN)
    assert server == IceServer(urls=["turn:turn.example"], username="ada", credential="swordfish")
    assert server.as_w3c() == TURN | {"urls": ["turn:turn.example"]}
    assert IceServer.of(server) is server


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "stun.example",
        "http://stun.example",
        "stun:",
        "stun:host:0",
        "stun:host:65536",
        "stun:host:x",
        "stun:host/path",
        "stun:[::1]:3478",
        "stun:host?transport=udp",
        "stuns:host",
        {**TURN, "urls": "turns:host?transport=udp"},
        {**TURN, "urls": "turn:host?transport=tls"},
        {**TURN, "urls": []},
        {**TURN, "urls": ["stun:h"] * 9},
        {**TURN, "urls": [1]},
        {**TURN, "credential": 12345},
        {**TURN, "password": "swordfish"},
        {"username": "ada"},
        "{not JSON: swordfish",
        ["stun:host"],
        7,
    ],
)
def test_what_nobody_could_use_is_refused_with_what_to_write(wrong: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        IceServer.of(wrong)
    assert refused.value.code == "ice_server"
    assert "ice_server: " in refused.value.message
    assert "stun:HOST" in refused.value.message or "URL" in refused.value.message
    assert "swordfish" not in refused.value.message
    assert "12345" not in refused.value.message


def test_a_secret_is_in_no_repr_also_not_in_that_of_a_message() -> None:
    offer = Offer(session="s", sdp="v=0", ice_servers=[IceServer.of(TURN)])
    assert "swordfish" not in repr(offer) + str(offer) + f"{offer}"
    assert "turn.example" in repr(offer)


def test_servers_travel_with_an_offer() -> None:
    offer = Offer(session="s", sdp="v=0", ice_servers=[IceServer.of(TURN)])
    assert decode(encode(offer)).message == offer
    plain = decode(encode(Offer(session="s", sdp="v=0"))).message
    assert isinstance(plain, Offer)
    assert plain.ice_servers == []
