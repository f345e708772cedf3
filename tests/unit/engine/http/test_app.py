"""Errors as statuses, and the one gate that every route lies behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import httpx
import pytest
from starlette.routing import Route

from engine.http import app
from engine.http.errors import status_of
from ipc import errors
from ipc.errors import BY_CODE, BackbeatError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from fastapi import FastAPI
    from starlette.types import Message, Receive, Scope, Send

    from engine.http.parts import Parts


class Unreachable:
    """Parts of an engine that no refused request may reach."""

    def __getattr__(self, name: str) -> object:
        pytest.fail(f"a refused request reached {name}")


def build(origins: list[str], *, loopback: bool = False) -> FastAPI:
    return app.build(
        cast("Parts", Unreachable()),
        allowed_hosts=["127.0.0.1", "localhost"],
        allowed_origins=origins,
        loopback=loopback,
    )


BUILT = build([])


def walk(routes: Sequence[object]) -> Iterator[Route]:
    """Every route; newer versions of FastAPI keep an included router as one entry."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walk(inner.routes)
        else:
            assert isinstance(route, Route), f"{route} would not be looked at"
            yield route


def every_route() -> list[tuple[str, str]]:
    return [
        (method, route.path.replace("{name}", "call.js"))
        for route in walk(BUILT.routes)
        for method in sorted(route.methods or {"GET"})
    ]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(BUILT)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
        yield client


def test_the_routes_are_all_walked() -> None:
    routes = every_route()
    assert ("POST", "/api/offer") in routes
    assert ("PATCH", "/api/offer") in routes
    assert ("GET", "/") in routes
    assert len(routes) > 8


@pytest.mark.parametrize(("method", "path"), every_route())
async def test_every_route_refuses_a_foreign_host(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    for host in ("evil.example", "evil.example:7860", "", "127.0.0.1.evil.example", "[::1"):
        response = await client.request(method, path, headers={"Host": host})
        assert response.status_code == 403, host
        if method != "HEAD":
            assert response.json()["code"] == "host_not_allowed"


@pytest.mark.parametrize(("method", "path"), every_route())
async def test_every_route_refuses_a_body_over_the_limit(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    for length in (str(app.MAX_BODY_BYTES + 1), "-1", "many"):
        headers = {"Content-Length": length, "Origin": "https://a.example"}
        response = await client.request(method, path, headers=headers)
        assert response.status_code == 413, length
        # A page that cannot read it takes it for a failure of the network, and calls again.
        assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_a_websocket_is_closed_before_it_opens() -> None:
    sent: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/offer", "headers": [], "query_string": b""}
    await BUILT(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("allowed", "origin", "answer"),
    [
        ([], "https://a.example", "*"),
        (["https://a.example"], "https://a.example", "https://a.example"),
        (["https://a.example"], "https://b.example", None),
    ],
)
async def test_pages_of_allowed_sites_may_read_the_answers(
    allowed: list[str], origin: str, answer: str | None
) -> None:
    transport = httpx.ASGITransport(build(allowed))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        response = await client.get("/health/live", headers={"Origin": origin})
        assert response.headers.get("Access-Control-Allow-Origin") == answer


class Failing:
    """Parts of an engine that fails at whatever it is asked for."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def sessions(self) -> object:
        raise self._error


@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError("a secret of the engine"), 500, "internal"),
        (errors.RingError("no ring"), 500, "ring"),
        (errors.Overloaded("full"), 503, "overloaded"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health/ready"), ("POST", "/start"), ("GET", "/api/ice-servers")]
)
async def test_a_page_may_read_every_failure(
    method: str, path: str, error: Exception, status: int, code: str, loopback: bool
) -> None:
    failing = app.build(
        cast("Parts", Failing(error)), allowed_hosts=[], allowed_origins=[], loopback=loopback
    )
    origin = "http://localhost:3000"
    transport = httpx.ASGITransport(failing)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        response = await client.request(method, path, headers={"Origin": origin})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["Access-Control-Allow-Origin"] == (origin if loopback else "*")
    assert "secret" not in response.text


async def test_a_fault_in_the_middle_of_an_answer_is_left_to_the_server() -> None:
    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("in the middle")

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ValueError, match="in the middle"):
        await app.Faults(half)({"type": "http", "method": "GET"}, receive, send)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("origin", "answer"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
        ("https://a.example", None),
        ("http://localhost.a.example", None),
    ],
)
async def test_on_loopback_only_pages_of_this_machine_may_call(
    origin: str, answer: str | None
) -> None:
    transport = httpx.ASGITransport(build([], loopback=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        preflight = await client.options("/api/offer", headers=asked)
        assert preflight.headers.get("Access-Control-Allow-Origin") == answer


@pytest.mark.parametrize("path", ["/start", "/api/offer", "/sessions/some-call/api/offer"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_page_may_send_what_pipecats_client_sends(path: str, method: str) -> None:
    transport = httpx.ASGITransport(build(["https://a.example"]))
    asked = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        preflight = await client.options(path, headers=asked)
    assert preflight.status_code == 200
    assert method in preflight.headers["Access-Control-Allow-Methods"]
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "content-type"} <= set(allowed.replace(" ", "").split(","))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:7860", "LOCALHOST:1"])
async def test_our_own_names_pass(client: httpx.AsyncClient, host: str) -> None:
    response = await client.get("/health/live", headers={"Host": host})
    assert response.status_code == 200


async def test_the_page_comes_with_a_policy_and_its_files(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["Content-Security-Policy"] == app.CONTENT_SECURITY_POLICY
    assert app.WEB_FILES
    for name in app.WEB_FILES:
        response = await client.get(f"/web/{name}")
        assert response.status_code == 200
        assert response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2fconfig.py", "%2e%2e", ".py"])
async def test_other_files_are_not_served(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/web/{name}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.AuthError, 401),
        (errors.RateLimited, 429),
        (errors.Overloaded, 503),
        (errors.QuotaExceeded, 503),
        (errors.SessionNotFound, 404),
        (errors.SessionClosed, 409),
        (errors.AlreadyAttached, 409),
        (errors.ConfigError, 400),
        (errors.MalformedMessage, 400),
        (errors.SdpRejected, 400),
        (errors.UnsupportedCodec, 400),
        (errors.NoBot, 503),
        (errors.BotRejected, 503),
        (errors.NoWorker, 503),
        (errors.WorkerStalled, 503),
        (errors.RingError, 500),
        (BackbeatError, 500),
    ],
)
def test_errors_have_statuses(error: type[BackbeatError], status: int) -> None:
    assert status_of(error("why")) == status
    assert status_of(error("why", code="narrowed")) == status


def test_what_may_succeed_later_is_503_or_429() -> None:
    for kind in BY_CODE.values():
        if kind.retryable:
            assert status_of(kind("why")) in (429, 503), kind
