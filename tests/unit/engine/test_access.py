"""Which hosts are served and which pages may call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.access import Access, without_port
from engine.config import load
from ipc.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Callable


def allows_host(access: Access, host: str) -> bool:
    return _allows(lambda: access.check_host(host), "host_not_allowed")


def allows_origin(access: Access, origin: str | None) -> bool:
    return _allows(lambda: access.check_origin(origin), "origin_not_allowed")


def _allows(check: Callable[[], None], code: str) -> bool:
    try:
        check()
    except AuthError as error:
        return error.code != code
    return True


def test_on_loopback_only_this_machine_is_served() -> None:
    access = Access.of_callers(load({}))
    for host in ("localhost:7861", "LOCALHOST", "127.0.0.1:1", "[::1]:7861", "[::1]"):
        assert allows_host(access, host)
    assert not allows_host(access, "rebound.example:7861")
    for origin in (None, "http://localhost:5173", "https://127.0.0.1", "http://[::1]:1"):
        assert allows_origin(access, origin)
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", ""):
        assert not allows_origin(access, origin)


def test_elsewhere_all_are_served_unless_some_are_named() -> None:
    everywhere = Access.of_callers(load({"host": "0.0.0.0"}))
    assert allows_host(everywhere, "any.example")
    assert allows_origin(everywhere, "https://any.example")
    named = Access.of_callers(
        load(
            {
                "host": "0.0.0.0",
                "allowed_host": ["voice.example"],
                "allowed_origin": ["https://a.example"],
                "public_ws_url": "wss://Media.example/x",
            }
        )
    )
    assert allows_host(named, "voice.example:443")
    assert allows_host(named, "media.example")
    assert not allows_host(named, "other.example")
    assert allows_origin(named, "https://a.example")
    assert allows_origin(named, None)
    assert not allows_origin(named, "https://b.example")
    assert not allows_origin(named, "http://localhost")


def test_a_named_page_may_call_an_engine_on_loopback() -> None:
    access = Access([], ["https://a.example"], loopback=True)
    assert allows_origin(access, "https://a.example")
    assert allows_origin(access, "http://localhost:1")


@pytest.mark.parametrize(
    ("host", "name"), [("a:1", "a"), ("a", "a"), ("[::1]:2", "[::1]"), ("[::1]", "[::1]"), ("", "")]
)
def test_a_host_is_told_from_its_port(host: str, name: str) -> None:
    assert without_port(host) == name
