"""Whatever is posted, the engine answers with a status and a code, and goes on serving."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fakes import offers
from tests.fakes.audio import tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import NO_TLS, ServeProcess, serve_of_a_module

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("http input")

ROOMY = Path(__file__).resolve().parent.parent / "fakes" / "bots" / "roomy.py"
GOOD = offers.offer(offers.audio("0"), offers.data("1"))


@pytest.fixture(scope="module")
def serve() -> Iterator[ServeProcess]:
    with serve_of_a_module("--bot", str(ROOMY)) as process:
        yield process


@pytest.fixture
def client(serve: ServeProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve.url, trust_env=False, verify=NO_TLS, timeout=20) as client:
        yield client


@pytest.fixture(autouse=True)
async def ready(serve: ServeProcess) -> None:
    await serve.settled()


def post(client: httpx.Client, sdp: str, **more: Any) -> httpx.Response:
    return client.post("/api/offer", json={"sdp": sdp, "type": "offer", **more})


def lines_without(section: list[str], *starts: str) -> list[str]:
    return [line for line in section if not line.startswith(starts)]


BAD_SDP = {
    "empty": "",
    "words": "not sdp at all",
    "binary": "\x00\x01\xff" * 50,
    "no mline values": "v=0\r\nm=audio\r\n",
    "port of six digits": GOOD.replace("m=audio 9 ", "m=audio 123456 "),
    "two equal mids": offers.offer(offers.audio("0"), offers.data("0")),
    "33 m-lines": offers.offer(*(offers.audio(str(n)) for n in range(33))),
    "over 64 KiB": GOOD + "a=x:" + "y" * 66_000 + "\r\n",
    "no fingerprint": offers.offer(lines_without(offers.audio(), "a=fingerprint:")),
    "no ice": offers.offer(lines_without(offers.audio(), "a=ice-")),
    "bad fingerprint": GOOD.replace(offers.FINGERPRINT, "zz"),
    "bad candidate": offers.offer(offers.audio(extra=["a=candidate:oops"])),
    "bad rtpmap": offers.offer(
        offers.audio(codecs=["a=rtpmap:111 opus/48000/2", "a=rtpmap:x opus/48000/2"])
    ),
    "bad ssrc": offers.offer(offers.audio(extra=["a=ssrc:minus cname:x"])),
    "bad setup": GOOD.replace("a=setup:actpass", "a=setup:whatever"),
}


@pytest.mark.parametrize("name", BAD_SDP)
def test_a_bad_sdp_is_refused_with_400_and_a_code(client: httpx.Client, name: str) -> None:
    response = post(client, BAD_SDP[name])
    assert response.status_code == 400, response.text
    too_large = name in ("33 m-lines", "over 64 KiB")
    assert response.json()["code"] == ("sdp_too_large" if too_large else "sdp_rejected")
    assert response.json()["detail"]


def test_an_offer_without_audio_is_refused(client: httpx.Client) -> None:
    response = post(client, offers.offer(offers.video("0"), offers.data("1")))
    assert (response.status_code, response.json()["code"]) == (400, "no_audio")


def test_an_offer_of_unknown_audio_codecs_only_is_refused_as_unsupported(
    client: httpx.Client,
) -> None:
    codecs = ["a=rtpmap:9 G722/8000", "a=rtpmap:103 ISAC/16000"]
    response = post(client, offers.offer(offers.audio(formats="9 103", codecs=codecs)))
    assert (response.status_code, response.json()["code"]) == (400, "unsupported_codec")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"type": "offer"}, "sdp"),
        ({"sdp": GOOD}, "type"),
        ({"sdp": GOOD, "type": "answer"}, "type"),
        ({"sdp": 5, "type": "offer"}, "sdp"),
        ({"sdp": GOOD, "type": "offer", "pc_id": 5}, "pc_id"),
        ([], "body"),
    ],
)
def test_missing_or_wrong_fields_are_named_with_422(
    client: httpx.Client, body: object, where: str
) -> None:
    response = client.post("/api/offer", json=body)
    assert response.status_code == 422
    answer = response.json()
    assert answer["code"] == "invalid_request"
    assert any(where in problem["loc"] and problem["msg"] for problem in answer["detail"])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b'"text"', b"[" * 100_000])
def test_what_is_not_json_is_refused_with_422(client: httpx.Client, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = client.post("/api/offer", content=content, headers=headers)
    assert response.status_code in (400, 422), response.text
    assert response.json()["code"] in ("invalid_request", "http")


def test_a_body_over_256_kib_is_refused_by_its_announced_length(client: httpx.Client) -> None:
    response = client.post("/api/offer", content=b" " * (256 * 1024 + 1))
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_body_over_256_kib_is_refused_when_it_comes_in_chunks(client: httpx.Client) -> None:
    pieces = (b" " * 16_384 for _ in range(20))
    response = client.post("/api/offer", content=pieces)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_content_length_that_is_no_number_is_refused(serve: ServeProcess) -> None:
    host, _, port = serve.url.removeprefix("http://").partition(":")
    request = f"POST /api/offer HTTP/1.1\r\nHost: {host}\r\nContent-Length: -5\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.encode())
        status = connection.recv(4096).split()[1]
    assert status in (b"400", b"413")


@pytest.mark.parametrize("key", ["request_data", "requestData"])
@pytest.mark.parametrize("bot", ["nobody", 5])
def test_request_data_in_either_case_names_the_bot(
    client: httpx.Client, key: str, bot: object
) -> None:
    response = post(client, GOOD, **{key: {"bot": bot}})
    wanted = (503, "no_bot") if isinstance(bot, str) else (400, "malformed_message")
    assert (response.status_code, response.json()["code"]) == wanted


def test_request_data_of_any_json_kind_is_taken(client: httpx.Client) -> None:
    for value in (None, 1, "text", [1, 2], {"a": {"b": None}}, 2**53):
        response = post(client, GOOD, request_data=value)
        assert response.status_code == 200, (value, response.text)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**40])
def test_request_data_with_an_integer_that_msgpack_cannot_hold_ends_that_offer_only(
    client: httpx.Client, number: int
) -> None:
    response = post(client, GOOD, request_data={"n": number})
    assert response.status_code in (200, 400), response.text
    assert client.get("/health/live").status_code == 200


def test_candidates_for_an_unknown_call_are_404(client: httpx.Client) -> None:
    response = client.patch("/api/offer", json={"pc_id": "pc_none", "candidates": []})
    assert (response.status_code, response.json()["code"]) == (404, "session_not_found")


def test_candidates_are_taken_in_every_shape_that_browsers_send(client: httpx.Client) -> None:
    pc_id = post(client, GOOD).json()["pc_id"]
    shapes = [
        {"candidate": offers.CANDIDATE, "sdp_mid": "0", "sdp_mline_index": 0},
        {"candidate": offers.CANDIDATE, "sdpMid": "1", "sdpMLineIndex": 1},
        {"candidate": offers.CANDIDATE, "sdp_mid": None, "sdp_mline_index": None},
        {"candidate": offers.CANDIDATE, "sdp_mid": None, "sdp_mline_index": 1},
        {"candidate": offers.CANDIDATE},
        {"candidate": offers.MDNS, "sdp_mid": "0", "sdp_mline_index": 0},
        {"candidate": "", "sdp_mid": None, "sdp_mline_index": 0},
        {"candidate": "", "sdp_mid": "0", "sdp_mline_index": None},
    ]
    for shape in shapes:
        response = client.patch("/api/offer", json={"pc_id": pc_id, "candidates": [shape]})
        assert (response.status_code, response.json()) == (200, {"status": "success"}), shape


@pytest.mark.parametrize(
    "candidate",
    ["x", "candidate:1", "candidate:1 1 udp x 127.0.0.1 9 typ host", "candidate:1 1 udp 1 a"],
)
def test_a_malformed_candidate_is_refused(client: httpx.Client, candidate: str) -> None:
    pc_id = post(client, GOOD).json()["pc_id"]
    body = {"pc_id": pc_id, "candidates": [{"candidate": candidate, "sdp_mid": "0"}]}
    response = client.patch("/api/offer", json=body)
    assert (response.status_code, response.json()["code"]) == (400, "sdp_rejected")


def test_too_many_candidates_and_too_long_ones_are_named_with_422(client: httpx.Client) -> None:
    pc_id = post(client, GOOD).json()["pc_id"]
    for candidates in ([{"candidate": ""}] * 257, [{"candidate": "c" * 2049}]):
        response = client.patch("/api/offer", json={"pc_id": pc_id, "candidates": candidates})
        assert response.status_code == 422


def test_sections_that_are_not_served_keep_their_place_and_mid(client: httpx.Client) -> None:
    sdp = offers.offer(
        offers.video("v"),
        offers.audio("a0"),
        offers.audio("a1"),
        offers.data("d", protocol="TCP/WSS/BFCP"),
        offers.data("sctp"),
        offers.video("off", port=0),
        bundle="v a0 a1 d sctp",
    )
    response = post(client, sdp)
    assert response.status_code == 200, response.text
    answer = response.json()["sdp"]
    kinds = [(kind, port != 0, mid) for kind, port, mid in offers.summary(answer)]
    assert kinds == [
        ("video", True, "v"),
        ("audio", True, "a0"),
        ("audio", False, "a1"),
        ("application", False, "d"),
        ("application", True, "sctp"),
        ("video", False, "off"),
    ]
    assert "a=inactive" in offers.sections_of(answer)[0]
    assert "a=group:BUNDLE v a0 sctp" in answer.split("\r\n")


def test_bundle_only_sections_with_port_0_are_served(client: httpx.Client) -> None:
    data = [*offers.data("1", port=0), "a=bundle-only"]
    response = post(client, offers.offer(offers.audio("0"), data))
    assert response.status_code == 200, response.text
    assert [port != 0 for _, port, _ in offers.summary(response.json()["sdp"])] == [True, True]


def test_an_offer_with_mdns_candidates_is_answered(client: httpx.Client) -> None:
    mdns = offers.audio("0", extra=[f"a={offers.MDNS}"])
    response = post(client, offers.offer(mdns, offers.data("1")))
    assert response.status_code == 200


def test_unknown_paths_and_methods_have_a_code(client: httpx.Client) -> None:
    assert client.get("/nothing").json()["code"] == "not_found"
    assert client.get("/web/../../pyproject.toml").status_code == 404
    assert client.get("/web/%2e%2e%2fconfig.py").status_code == 404
    assert client.delete("/api/offer").json()["code"] == "method_not_allowed"


def test_a_page_of_another_site_that_rebinds_its_name_is_refused(client: httpx.Client) -> None:
    response = client.get("/health/ready", headers={"Host": "evil.example"})
    assert (response.status_code, response.json()["code"]) == (403, "host_not_allowed")


async def test_after_all_that_a_call_is_served(serve: ServeProcess, client: httpx.Client) -> None:
    for sdp in BAD_SDP.values():
        post(client, sdp)
    async with FakeCaller(serve.url, tone_source(500)) as caller:
        await caller.hears(500)
