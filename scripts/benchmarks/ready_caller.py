"""Calls as Pipecat's JavaScript client does, one after the other, each until `bot-ready`.

`POST /start`, an offer without candidates to `/sessions/{id}/api/offer`, audio, video and the
channel "chat", `client-ready` when that opens; candidates follow by PATCH after 200 ms if they are
still of use. Prints the ms of each call as JSON, from the request to `/start` on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402

from ipc.loop import new_runner  # noqa: E402
from scripts.benchmarks import light_peer  # noqa: E402

READY_S = 15.0
TRICKLE_S = 0.2
REST_S = 0.3
CLIENT = {"version": "2.1.0", "about": {"library": "backbeat's bench", "library_version": "1"}}
CANDIDATES = ("a=candidate:", "a=end-of-candidates")


async def call(http: httpx.AsyncClient) -> float:
    """ms until the bot was ready. Raises TimeoutError, httpx.HTTPError."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("audio", direction="sendrecv")
    pc.addTransceiver("video", direction="sendrecv")
    channel = pc.createDataChannel("chat", ordered=True)
    ready = asyncio.Event()
    hello = {"id": "5eed1e55", "label": "rtvi-ai", "type": "client-ready", "data": CLIENT}

    @channel.on("open")
    def opened() -> None:
        channel.send(json.dumps(hello))

    @channel.on("message")
    def said(data: str | bytes) -> None:
        message = _parsed(data)
        if message.get("type") == "bot-ready" and message.get("id") == hello["id"]:
            ready.set()

    began = time.monotonic()
    try:
        async with asyncio.timeout(READY_S):
            started = await _ask(http, "POST", "/start", {"body": {}})
            path = f"/sessions/{started['sessionId']}/api/offer"
            await pc.setLocalDescription(await pc.createOffer())
            lines = pc.localDescription.sdp.splitlines()
            bare = [line for line in lines if not line.startswith(CANDIDATES)]
            offer = {"sdp": "\r\n".join([*bare, ""]), "type": "offer", "pc_id": None}
            answer = await _ask(http, "POST", path, offer | {"restart_pc": False})
            await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
            try:
                await asyncio.wait_for(ready.wait(), TRICKLE_S)
            except TimeoutError:
                candidates = [
                    {"candidate": line.removeprefix("a="), "sdp_mid": "0", "sdp_mline_index": 0}
                    for line in lines
                    if line.startswith(CANDIDATES[0])
                ]
                found = {"pc_id": answer["pc_id"], "candidates": candidates}
                await http.patch(path, json=found)
                await ready.wait()
        return (time.monotonic() - began) * 1000
    finally:
        await pc.close()


def _parsed(data: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(data)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


async def _ask(http: httpx.AsyncClient, method: str, path: str, body: Any) -> dict[str, Any]:
    response = await http.request(method, path, json=body)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


async def main(url: str, calls: int) -> None:
    """Place the calls."""
    light_peer.install()
    took_ms: list[float] = []
    errors: list[str] = []
    async with httpx.AsyncClient(base_url=url, timeout=READY_S, trust_env=False) as http:
        for _ in range(calls):
            try:
                took_ms.append(await call(http))
            except (TimeoutError, httpx.HTTPError, KeyError) as error:
                errors.append(f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(REST_S)
    print(json.dumps({"took_ms": took_ms, "errors": errors}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Calls until bot-ready; see scripts/bench.")
    parser.add_argument("url")
    parser.add_argument("calls", type=int)
    arguments = parser.parse_args()
    with new_runner() as runner:
        runner.run(main(arguments.url, arguments.calls))
    # aiortc may leave threads of its executor; nothing is left to do here.
    os._exit(0)
