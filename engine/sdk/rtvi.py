"""What RTVI clients expect of a bot: the handshake, requests and their answers (protocol 2.2.0).

    rtvi = Rtvi(session)

    @rtvi.message("weather")
    async def weather(data):
        return {"degrees": 21}

Messages travel as app messages `{"label": "rtvi-ai", "type", "id", "data"}`; what carries another
label is somebody else's and is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ipc.errors import BackbeatError, ConfigError, StateError

if TYPE_CHECKING:
    from engine.sdk.session import Session

log = logging.getLogger("backbeat.bot")

LABEL = "rtvi-ai"
PROTOCOL = "2.2.0"
# Clients of the first generation read answers of their own version only.
LEGACY = ((1, 0, 0), (1, 2, 0))
MAJOR = 2
MAX_RUNNING = 64
MAX_ID = 256
VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})")
CAPABILITIES = {
    "audio_in": True,
    "audio_out": True,
    "video_in": False,
    "screen_in": False,
    "video_out": False,
    "metrics": False,
}

Handler = Callable[[Any], Awaitable[Any] | Any]


class Rtvi:
    """The RTVI side of one session; made in the session's handler, before it awaits anything.

    `about` tells the client who answers (`library`, `library_version`, ...), `capabilities`
    what the bot can do, over those of a voice bot.
    """

    def __init__(
        self,
        session: Session,
        *,
        about: dict[str, Any] | None = None,
        capabilities: dict[str, bool] | None = None,
    ) -> None:
        self.version = ""  # of the client, once it is ready
        self.ignored = 0  # messages that were not RTVI's
        self._session = session
        self._about = {"library": "backbeat"} | (about or {})
        self._capabilities = CAPABILITIES | (capabilities or {})
        self._handlers: dict[str, Handler] = {"client-message": self._client_message}
        self._answers: dict[str, Handler] = {}
        self._ready = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        session.on("message", self._take)
        session.on("closed", self._end)

    # -- what a bot does ----------------------------------------------------------------------

    async def wait_ready(self) -> None:
        """Return once the client has said that it is ready, and was answered."""
        await self._ready.wait()

    def message(self, kind: str) -> Callable[[Handler], Handler]:
        """Decorator: answer the client's `client-message` of type `kind`; takes its data.

        What the function returns goes back as `server-response`, what it raises as
        `error-response`.
        """
        return _register(self._answers, kind)

    def on(self, kind: str) -> Callable[[Handler], Handler]:
        """Decorator: handle another RTVI type of the client (`send-text`, `dtmf`, ...)."""
        if kind == "client-ready":
            raise ConfigError("client-ready is answered here; await wait_ready() instead")
        return _register(self._handlers, kind)

    def send(self, data: Any) -> bool:
        """Send a `server-message` with any JSON data; see `Session.send`."""
        return self.send_as("server-message", data)

    def send_as(self, kind: str, data: Any = None, *, at: int | None = None) -> bool:
        """Send an RTVI message of any type; with `at` after that speaker sample."""
        message = {"label": LABEL, "type": kind}
        if data is not None:
            message["data"] = data
        return self._session.send(message, at=at)

    # -- what the client says -----------------------------------------------------------------

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict) or message.get("label") != LABEL:
            self.ignored += 1
            return
        request, kind, data = message.get("id"), message.get("type"), message.get("data")
        if not _is_id(request):
            self._fail(None, f"`id` is text of up to {MAX_ID} characters")
        elif not isinstance(kind, str):
            self._fail(request, "`type` is text")
        elif kind == "client-ready":
            self._client_ready(request, data)
        elif kind == "disconnect-bot":
            self._run(request, self._leave, data)
        elif kind in self._handlers:
            self._run(request, self._handlers[kind], data, answers=kind == "client-message")
        else:
            self._fail(request, f"this bot does not handle {kind!r}"[:200])

    def _client_ready(self, request: str | None, data: Any) -> None:
        said = data.get("version") if isinstance(data, dict) else None
        version = _version(said)
        legacy = version is not None and LEGACY[0] <= version <= LEGACY[1]
        if version is None or not (legacy or version[0] == MAJOR):
            self._fail(
                request,
                f"Compatibility issues: the client's RTVI version is {said!r}, this bot speaks "
                f"{PROTOCOL}. It goes on, but some things may not work."[:300],
            )
        self.version = said if isinstance(said, str) else ""
        ready: dict[str, Any] = {
            "version": self.version if legacy else PROTOCOL,
            "about": self._about,
            "capabilities": self._capabilities,
        }
        self._answer(request, "bot-ready", ready)
        self._ready.set()

    async def _client_message(self, data: Any) -> dict[str, Any]:
        kind = data.get("t") if isinstance(data, dict) else None
        if not isinstance(kind, str):
            raise _Refused("a client-message is {t: type, d: data}")
        if kind not in self._answers:
            raise _Refused(f"this bot does not answer {kind!r}"[:200])
        result = self._answers[kind](data.get("d"))
        return {"t": kind, "d": await result if inspect.isawaitable(result) else result}

    async def _leave(self, _data: Any) -> None:
        # Before its media is there a bot has said nothing that could be heard to the end.
        with contextlib.suppress(StateError):
            await self._session.wait_played()
        await self._session.close("client_asked")

    # -- how it is answered -------------------------------------------------------------------

    def _run(
        self, request: str | None, handler: Handler, data: Any, *, answers: bool = False
    ) -> None:
        if len(self._running) >= MAX_RUNNING:
            self._fail(request, f"{MAX_RUNNING} requests are being handled; try again later")
            return
        work = self._handle(request, handler, data, answers=answers)
        task = asyncio.create_task(work, name="rtvi request")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(
        self, request: str | None, handler: Handler, data: Any, *, answers: bool
    ) -> None:
        try:
            result = handler(data)
            if inspect.isawaitable(result):
                result = await result
            if answers:
                self._answer(request, "server-response", result)
        except _Refused as refused:
            self._fail(request, str(refused))
        except BackbeatError as error:
            if not self._session.closed:
                self._fail(request, error.message)
        except Exception as error:
            log.exception("an RTVI handler of session %s failed", self._session.id)
            self._fail(request, f"the bot failed: {type(error).__name__}")

    def _fail(self, request: str | None, error: str) -> None:
        self._answer(request, "error-response", {"error": error})

    def _answer(self, request: str | None, kind: str, data: Any) -> None:
        if self._session.closed:
            return
        message = {"label": LABEL, "type": kind, "data": data}
        self._session.send(message if request is None else message | {"id": request})

    def _end(self) -> None:
        self._ready.set()
        for task in self._running:
            task.cancel()


class _Refused(Exception):
    """A request that the client should not have made."""


def _register(table: dict[str, Handler], kind: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        table[kind] = handler
        return handler

    return register


def _version(said: object) -> tuple[int, int, int] | None:
    match = VERSION.fullmatch(said) if isinstance(said, str) else None
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _is_id(given: object) -> bool:
    return given is None or (isinstance(given, str) and len(given) <= MAX_ID)
