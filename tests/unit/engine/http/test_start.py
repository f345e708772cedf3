"""Announced calls: where their signaling goes, what the bot is given, and who is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from fastapi import FastAPI

from engine.http import start
from ipc.errors import BackbeatError, LimitError, RateLimited, SessionNotFound
from ipc.ice_server import IceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.http.parts import Parts


class FakeCallers:
    """Gives out tokens, at a port."""

    def __init__(self) -> None:
        self.port = 7861
        self.data: list[Any] = []
        self.refusal: BackbeatError | None = None

    def issue(self, data: Any, client: str) -> str:
        assert client == "127.0.0.1"
        if self.refusal is not None:
            raise self.refusal
        self.data.append(data)
        return f"token-{len(self.data)}"

    def url(self, scheme: str, host: str) -> str:
        return f"{scheme} {host} {self.port}"


class FakeSessions:
    """Takes every offer and candidate."""

    def __init__(self) -> None:
        self.offers: list[dict[str, Any]] = []
        self.candidates: list[tuple[str, int]] = []
        self.ice_servers: list[IceServer] = []
        self.reasons: list[str] = []
        self.callers = FakeCallers()

    async def offer(self, sdp: str, **fields: Any) -> tuple[str, str]:
        self.offers.append({"sdp": sdp, **fields})
        return "v=0 answer", "pc_1"

    async def add_candidates(self, pc_id: str, candidates: list[Any]) -> None:
        self.candidates.append((pc_id, len(candidates)))

    def not_ready(self) -> list[str]:
        return self.reasons


@pytest.fixture
def sessions() -> FakeSessions:
    return FakeSessions()


def serving(sessions: FakeSessions) -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(start.router(cast("Parts", SimpleNamespace(sessions=sessions))))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:1")


@pytest.fixture
async def client(sessions: FakeSessions) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sessions) as client:
        yield client


OFFER = {"sdp": "v=0", "type": "offer"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff",
        b"[1]",
        pytest.param(b"[" * 100_000, id="too deep"),
        b'{"something": "else", "enableDefaultIceServers": null}',
    ],
)
async def test_a_start_needs_no_body(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/start", content=body)
    assert answer.status_code == 200
    assert list(answer.json()) == ["sessionId"]


async def test_the_offer_goes_under_the_id_with_the_data_of_the_start(
    client: httpx.AsyncClient, sessions: FakeSessions
) -> None:
    started = await client.post("/start", json={"transport": "webrtc", "body": {"who": "me"}})
    url = f"/sessions/{started.json()['sessionId']}/api/offer"
    answer = await client.post(url, json=OFFER)
    assert answer.json() == {"sdp": "v=0 answer", "type": "answer", "pc_id": "pc_1"}
    again = {**OFFER, "pc_id": "pc_1", "restart_pc": True, "requestData": {"own": 1}}
    assert (await client.post(url, json=again)).status_code == 200
    assert [offer["request_data"] for offer in sessions.offers] == [{"who": "me"}, {"own": 1}]
    assert sessions.offers[1]["restart"] is True
    candidates = [{"candidate": "", "sdp_mid": None, "sdp_mline_index": None}]
    patched = await client.patch(url, json={"pc_id": "pc_1", "candidates": candidates})
    assert patched.json() == {"status": "success"}
    assert sessions.candidates == [("pc_1", 1)]


async def test_other_paths_of_a_call_are_empty(client: httpx.AsyncClient) -> None:
    session = (await client.post("/start")).json()["sessionId"]
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = await client.request(method, f"/sessions/{session}/anything")
        assert (answer.status_code, answer.content) == (200, b"")


async def test_an_unknown_call_is_404(client: httpx.AsyncClient) -> None:
    answer = await client.post("/sessions/unknown/api/offer", json=OFFER)
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"sdp": 1, "type": "offer"}', b"\xff"])
async def test_an_offer_that_cannot_be_read_is_400_and_says_why(
    client: httpx.AsyncClient, body: bytes
) -> None:
    session = (await client.post("/start")).json()["sessionId"]
    answer = await client.post(f"/sessions/{session}/api/offer", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["detail"]


async def test_a_start_with_too_much_for_the_bot_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/start", json={"body": "x" * 20_000})
    assert (answer.status_code, answer.json()["code"]) == (400, "message_too_large")


async def test_a_websocket_caller_is_told_where_to_go_and_given_a_token(
    client: httpx.AsyncClient, sessions: FakeSessions
) -> None:
    asked = {"transport": "websocket", "body": {"who": "me"}, "enableDefaultIceServers": True}
    answer = await client.post("/start", json=asked)
    assert answer.json() == {"wsUrl": "http 127.0.0.1 7861", "token": "token-1"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert sessions.callers.data == [{"who": "me"}]
    large = {"transport": "websocket", "body": "x" * (17 << 10)}
    assert (await client.post("/start", json=large)).status_code == 400
    sessions.callers.port = 0
    refused = await client.post("/start", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (400, "transport")


async def test_a_transport_that_is_not_served_is_400(client: httpx.AsyncClient) -> None:
    answer = await client.post("/start", json={"transport": "twilio"})
    assert (answer.status_code, answer.json()["code"]) == (400, "transport")
    assert "twilio" in answer.json()["detail"]


async def test_configured_servers_go_to_the_caller_before_public_ones(
    client: httpx.AsyncClient, sessions: FakeSessions
) -> None:
    public = await client.post("/start", json={"enableDefaultIceServers": True})
    assert public.json()["iceConfig"]["iceServers"][0]["urls"][0].startswith("stun:")
    sessions.ice_servers = [IceServer(urls=["turn:a:1"], username="u", credential="c")]
    own = await client.post("/start", json={"enableDefaultIceServers": True})
    assert own.json()["iceConfig"]["iceServers"] == [
        {"urls": ["turn:a:1"], "username": "u", "credential": "c"}
    ]


async def test_the_status_says_whether_calls_are_taken(
    client: httpx.AsyncClient, sessions: FakeSessions
) -> None:
    found = (await client.get("/status")).json()
    assert found == {"status": "ready", "transports": ["webrtc", "websocket"]}
    sessions.reasons = ["full"]
    assert (await client.get("/status")).json()["status"] == "not ready"


@pytest.mark.parametrize(("kind", "status"), [(RateLimited, 429), (LimitError, 503)])
async def test_too_many_announced_calls_are_refused(
    client: httpx.AsyncClient,
    sessions: FakeSessions,
    kind: type[BackbeatError],
    status: int,
) -> None:
    sessions.callers.refusal = kind("too many", code="too_many_tokens")
    refused = await client.post("/start", json={"transport": "websocket"})
    assert (refused.status_code, refused.json()["code"]) == (status, "too_many_tokens")


async def test_calls_that_were_made_leave_room_for_more(
    sessions: FakeSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "MAX_OF_ONE", 2)
    async with serving(sessions) as client:
        ids = [(await client.post("/start")).json()["sessionId"] for _ in range(2)]
        refused = await client.post("/start")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_tokens")
        assert (await client.post(f"/sessions/{ids[0]}/api/offer", json=OFFER)).is_success
        assert (await client.post("/start")).is_success
        for made in ids:
            assert (await client.post(f"/sessions/{made}/api/offer", json=OFFER)).is_success


def test_a_call_that_was_made_is_known_for_an_hour_after_its_last_offer() -> None:
    now_s = 0.0
    started = start.Started(lambda: now_s)
    call = started.add({"who": "me"}, "::1")
    for _ in range(3):
        now_s += start.REMEMBERED_S
        assert started.get(call) == {"who": "me"}
        started.made(call)
    now_s += start.REMEMBERED_S + 1
    with pytest.raises(SessionNotFound):
        started.get(call)


def test_only_so_many_calls_that_were_made_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "MAX_REMEMBERED", 3)
    started = start.Started()
    ids = []
    for number in range(5):
        ids.append(started.add(number, "::1"))
        started.made(ids[-1])
    assert [started.get(kept) for kept in ids[-3:]] == [2, 3, 4]
    with pytest.raises(SessionNotFound):
        started.get(ids[0])
    started.made(ids[0])
