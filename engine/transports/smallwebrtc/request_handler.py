"""Offers and candidates of callers, in the shapes of the documented HTTP API, for one's own routes.

The handler knows its connections by every `pc_id` they have had, until they end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AliasChoices, Field

from engine.transports.smallwebrtc.connection import IceServer, SmallWebRTCConnection
from engine.transports.smallwebrtc.munging import smallwebrtc_sdp_munging
from ipc.errors import BackbeatError, ConfigError, SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


@dataclasses.dataclass
class SmallWebRTCRequest:
    """A caller's offer. A known `pc_id` renegotiates, with `restart_pc` on a new connection."""

    sdp: str
    type: str
    pc_id: str | None = None
    restart_pc: bool | None = None
    # As the body of a FastAPI route, too, it is read in both spellings.
    request_data: Annotated[
        Any | None, Field(validation_alias=AliasChoices("request_data", "requestData"))
    ] = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From a JSON body; `requestData` is taken for `request_data`. Others are ignored.

        Raises TypeError when `sdp` or `type` is missing.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        given = {name: value for name, value in data.items() if name in names}
        if "requestData" in data and "request_data" not in given:
            given["request_data"] = data["requestData"]
        return cls(**given)


@dataclasses.dataclass
class IceCandidate:
    """A trickled candidate as SDP text; an empty one ends them."""

    candidate: str
    sdp_mid: str | None
    sdp_mline_index: int | None


@dataclasses.dataclass
class SmallWebRTCPatchRequest:
    """Candidates that a caller found after its offer."""

    pc_id: str
    candidates: list[IceCandidate]


class ConnectionMode(enum.Enum):
    """Whether a handler serves one caller at a time or many."""

    SINGLE = "single"
    MULTIPLE = "multiple"


class SmallWebRTCRequestHandler:
    """Answers offers with connections of its own. `close` ends them all.

    `esp32_mode` writes answers that small devices can read, with candidates of `host` alone.
    """

    # What a new caller gets.
    connection_class: type[SmallWebRTCConnection] = SmallWebRTCConnection

    def __init__(
        self,
        ice_servers: list[IceServer] | None = None,
        esp32_mode: bool = False,
        host: str | None = None,
        connection_mode: ConnectionMode = ConnectionMode.MULTIPLE,
    ) -> None:
        self._ice_servers = ice_servers
        self._esp32_mode = esp32_mode
        self._host = host
        self._connection_mode = connection_mode
        self._connections: dict[str, SmallWebRTCConnection] = {}
        self._answering = asyncio.Lock()

    def update_ice_servers(self, ice_servers: list[IceServer] | None = None) -> None:
        """Servers for the connections to come."""
        self._ice_servers = ice_servers

    async def handle_web_request(
        self,
        request: SmallWebRTCRequest,
        webrtc_connection_callback: Callable[[Any], Awaitable[None]],
    ) -> dict[str, str] | None:
        """Answer an offer: `sdp`, `type`, `pc_id`.

        `webrtc_connection_callback` gets each new connection; what it raises is logged, the
        caller has its answer all the same. Raises fastapi.HTTPException(400) when the mode
        allows no other connection, and BackbeatError.
        """
        try:
            if self._connection_mode is not ConnectionMode.SINGLE:
                return await self._answer(request, webrtc_connection_callback)
            async with self._answering:  # or two callers would each be the only one
                self._check_single(request.pc_id)
                return await self._answer(request, webrtc_connection_callback)
        except BackbeatError as error:
            raise _refusal(error.message, error) from error

    async def handle_patch_request(self, request: SmallWebRTCPatchRequest) -> None:
        """Add candidates. Raises fastapi.HTTPException, 404 for an unknown `pc_id`."""
        connection = self._connections.get(request.pc_id)
        if connection is None:
            raise _refusal("Peer connection not found", SessionNotFound(""))
        try:
            for candidate in request.candidates:
                await connection.add_ice_candidate(candidate)
        except BackbeatError as error:
            raise _refusal(error.message, error) from error

    async def close(self) -> None:
        """End every connection."""
        connections = set(self._connections.values())
        self._connections.clear()
        await asyncio.gather(*(connection.disconnect() for connection in connections))

    async def _answer(
        self, request: SmallWebRTCRequest, callback: Callable[[Any], Awaitable[None]]
    ) -> dict[str, str] | None:
        known = self._connections.get(request.pc_id) if request.pc_id else None
        if known is not None:
            await known.renegotiate(request.sdp, request.type, bool(request.restart_pc))
            # A caller that missed this answer comes again with the id that it knows. Not when the
            # call has ended meanwhile: then nobody would forget it any more.
            if not known.session.closed:
                self._connections[known.pc_id] = known
            return self._munged(known.get_answer())
        connection = self.connection_class(self._ice_servers)
        try:
            await connection.initialize(request.sdp, request.type)
        except BackbeatError:
            await connection.disconnect()
            raise
        self._connections[connection.pc_id] = connection
        connection.add_event_handler("closed", self._forget)
        try:
            await callback(connection)
        except Exception:
            log.exception("the callback for connection %s failed", connection.pc_id)
        return self._munged(connection.get_answer())

    def _check_single(self, pc_id: str | None) -> None:
        if not self._connections or pc_id in self._connections:
            return
        raise _refusal(
            "PC ID mismatch with existing connection"
            if pc_id
            else "Cannot create new connection with existing connection active",
            ConfigError(""),
        )

    def _munged(self, answer: dict[str, str] | None) -> dict[str, str] | None:
        if answer is None or not self._esp32_mode:
            return answer
        return answer | {"sdp": smallwebrtc_sdp_munging(answer["sdp"], self._host)}

    async def _forget(self, connection: SmallWebRTCConnection) -> None:
        for pc_id, known in list(self._connections.items()):
            if known is connection:
                del self._connections[pc_id]


def _refusal(detail: str, cause: BackbeatError) -> Exception:
    # Loaded by those who serve HTTP.
    from fastapi import HTTPException

    from engine.http.errors import status_of

    return HTTPException(status_code=status_of(cause), detail=detail)
