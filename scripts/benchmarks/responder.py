"""A server that does nothing but answer and send: the callers are calibrated against it.

Its peers are light ones as well, on a timer of their own: what the callers see of it is the
floor of every measurement.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from ipc.loop import new_runner  # noqa: E402
from scripts.benchmarks import light_peer  # noqa: E402
from scripts.benchmarks.light_peer import LightPeer  # noqa: E402
from scripts.benchmarks.priority import raise_priority  # noqa: E402
from scripts.benchmarks.timer import AbsoluteTimer  # noqa: E402

SLOTS = 10
SLOT_NS = 20_000_000 // SLOTS


class Offer(BaseModel):
    """An SDP offer."""

    sdp: str
    type: str


def build(slots: list[list[LightPeer]]) -> FastAPI:
    """The application."""
    app = FastAPI()

    @app.post("/api/offer")
    async def offer(request: Offer) -> dict[str, str]:
        peer = LightPeer(sum(map(len, slots)), lambda number, data, when: None)
        answer = await peer.answer(request.sdp)
        min(slots, key=len).append(peer)
        return {"sdp": answer, "type": "answer"}

    return app


async def main() -> None:
    """Serve on a free port of loopback."""
    light_peer.install()
    raise_priority(2)
    slots: list[list[LightPeer]] = [[] for _ in range(SLOTS)]

    def tick(number: int, due_ns: int) -> None:
        peers = slots[number % SLOTS]
        for peer in peers:
            peer.send()
        for peer in peers:
            peer.drain()

    timer = AbsoluteTimer(SLOT_NS, tick)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build(slots), log_level="warning", lifespan="off")
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    try:
        await uvicorn.Server(config).serve(sockets=[listener])
    finally:
        timer.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), new_runner() as runner:
        runner.run(main())
