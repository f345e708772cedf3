"""Statistics for people and programs: which calls there are, and how one of them does."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from engine.http.errors import CodedRoute
from engine.http.parts import Parts
from ipc.errors import AuthError
from ipc.stats import as_report


def router(parts: Parts, *, loopback: bool) -> APIRouter:
    """The statistics routes over an engine's sessions."""
    routes = APIRouter(prefix="/api/sessions", tags=["statistics"], route_class=CodedRoute)

    @routes.get("")
    async def listing() -> list[dict[str, Any]]:
        """The calls that there are; on an engine that only this machine can reach.

        Elsewhere nobody could be told from a stranger, and an id opens a call's statistics.
        """
        if not loopback:
            raise AuthError(
                "calls are listed only by an engine on loopback; ask for one by its pc_id",
                code="not_listed",
            )
        return [session.snapshot() for session in parts.sessions.all]

    @routes.get("/{session}/stats")
    async def stats(session: str) -> dict[str, dict[str, Any]]:
        """How a call does: W3C's records by their id. `session` is its id or its `pc_id`."""
        return as_report((await parts.sessions.stats(session)).records)

    return routes
