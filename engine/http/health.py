"""Is the process alive, and would a call be taken?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from engine.http.errors import CodedRoute
from engine.http.parts import Parts


def router(parts: Parts) -> APIRouter:
    """The health routes."""
    routes = APIRouter(prefix="/health", tags=["health"], route_class=CodedRoute)

    @routes.get("/live")
    async def live() -> dict[str, str]:
        """The engine's loop turns."""
        return {"status": "live"}

    @routes.get("/ready")
    async def ready(response: Response) -> dict[str, Any]:
        """A call that came now would be taken; 503 with the reasons when it would not."""
        sessions, bots, supervisor = parts.sessions, parts.bots, parts.supervisor
        names = bots.names()
        reasons = sessions.not_ready()
        if reasons:
            response.status_code = 503
        return {
            "status": "not ready" if reasons else "ready",
            "reasons": reasons,
            "sessions": len(sessions.all),
            "bots": [
                {
                    "name": bot.name,
                    "processes": names[bot.name],  # that bear this name and share its callers
                    "id": bot.id,
                    "sessions": len(bot.sessions),
                    "capacity": bot.hello.capacity,
                    "late": bot.late,
                }
                for bot in bots.all
            ],
            "refused": bots.refused,
            "workers": [
                {
                    "name": worker.name,
                    "state": worker.state.value,
                    "pid": worker.child.pid if worker.child else None,
                    "sessions": len(worker.sessions),
                    "load": worker.beat.load if worker.beat else None,
                    "late_ms": worker.beat.late_ms if worker.beat else None,
                    "missed_frames": worker.beat.missed_frames if worker.beat else None,
                    "keeps_up": not worker.strain.too_much,
                    "priority": worker.beat.priority if worker.beat else None,
                    "udp_port": worker.beat.udp_port if worker.beat else None,
                    "upgrades": worker.beat.upgrades if worker.beat else None,
                }
                for worker in supervisor.workers
            ],
        }

    return routes
