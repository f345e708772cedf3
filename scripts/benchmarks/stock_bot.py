"""The peer that we are measured against: an aiortc echo bot in one process, as its examples are.

Prints its URL, serves until it is terminated. Offers 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import aioice.ice
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from fastapi import FastAPI
from pydantic import BaseModel


class Offer(BaseModel):
    """An SDP offer."""

    sdp: str
    type: str


def build() -> FastAPI:
    """The bot's application."""
    app = FastAPI()
    peers: set[RTCPeerConnection] = set()

    @app.post("/api/offer")
    async def offer(request: Offer) -> dict[str, str]:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peers.add(peer)
        peer.on("track", peer.addTrack)
        await peer.setRemoteDescription(RTCSessionDescription(request.sdp, request.type))
        await peer.setLocalDescription(await peer.createAnswer())
        return {"sdp": peer.localDescription.sdp, "type": "answer", "pc_id": str(id(peer))}

    return app


async def main() -> None:
    """Serve on a free port of loopback."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build(), log_level="warning", lifespan="off")
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
