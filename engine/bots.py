"""The bots gateway: who is registered, who has room, and the line to each of them.

A bot process says hello under a name with a capacity that is a promise. Its death is
noticed at once when it runs on this machine (pidfd), else by its missing beats.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
import zmq

from ipc import bell, life
from ipc.audio_ring import RingSpec
from ipc.channel import Channel
from ipc.clock import NS_PER_S, Clock
from ipc.errors import (
    AlreadyAttached,
    AuthError,
    BackbeatError,
    BotGone,
    BotRejected,
    ConfigError,
    MalformedMessage,
    NoBot,
)
from ipc.messages import Beat, Goodbye, Hello, Message, OfferSession, Ok, Welcome
from ipc.sockets import Context, open_socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.config import Settings
    from ipc.runtime_dir import RuntimeDir

log = structlog.get_logger(__name__)

WATCH_INTERVAL_S = 0.25
MISSED_BEATS_S = 1.0
REMOTE_GONE_S = 5.0
# What a process said last may reach us after the news of its end.
LAST_WORDS_S = 0.1
MAX_CAPACITY = 10_000
MAX_NAME = 64
# So many names of bots stand in an error.
MAX_NAMED = 8


@dataclass(eq=False)
class BotHandle:
    """What the engine knows of one bot process."""

    id: str
    peer: bytes
    hello: Hello
    beat_ns: int
    pidfd: int = -1
    late: bool = False
    gone: bool = False
    sessions: set[str] = field(default_factory=set)
    # Those that it has placed itself; they take no room.
    placed: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The name under which it takes calls."""
        return self.hello.name

    @property
    def room(self) -> int:
        """How many more sessions it takes."""
        return self.hello.capacity - len(self.sessions)


class Bots:
    """Owns the `bots` socket and knows every bot process."""

    def __init__(
        self,
        settings: Settings,
        runtime: RuntimeDir,
        context: Context,
        clock: Clock,
        *,
        on_request: Callable[[BotHandle, Message], Awaitable[Message]],
        on_message: Callable[[BotHandle, Message], None],
        on_gone: Callable[[BotHandle, str], None],
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._context = context
        self._clock = clock
        self._on_bot_request = on_request
        self._on_bot_message = on_message
        self._on_gone = on_gone
        self._by_peer: dict[bytes, BotHandle] = {}
        self._declined: Counter[str] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self._arrived = asyncio.Condition()
        self._waking: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Bind the socket."""
        socket = open_socket(
            self._context, zmq.ROUTER, bind=self._runtime.endpoint("bots"), queue=1000
        )
        self._channel = Channel(socket, on_request=self._on_request, on_notify=self._on_notify)
        self._watching = asyncio.create_task(self._watch(), name="bots watch")

    async def close(self) -> None:
        """Forget everybody; bots notice that no beat is answered."""
        if self._watching is None:
            return
        self._watching.cancel()
        await asyncio.gather(self._watching, *self._waking, return_exceptions=True)
        for bot in list(self._by_peer.values()):
            self.notify(bot, Goodbye())
            self._unwatch(bot)
        self._by_peer.clear()
        await self._channel.close()

    @property
    def all(self) -> list[BotHandle]:
        """Every registered bot process, in the order of their hellos."""
        return list(self._by_peer.values())

    @property
    def refused(self) -> dict[str, int]:
        """How much input of bots was refused and how many offers bots refused, by code."""
        return dict(self._channel.refused + self._declined)

    def choose(self, name: str | None, without: set[str] | None = None) -> BotHandle:
        """The least loaded process of that bot with room. Raises NoBot with the reason."""
        # A bot whose capacity is 0 only places calls: any other comes first.
        by_use = sorted(self.all, key=lambda bot: not bot.hello.capacity)
        wanted = name or self._settings.default_bot or next((bot.name for bot in by_use), None)
        if wanted is None:
            raise NoBot("no bot is connected to this engine: start one, or serve with --bot FILE")
        named = self.named(wanted)
        if not named:
            raise NoBot(
                f"no bot named {wanted[:MAX_NAME]!r} is connected to this engine"
                f"{'' if name else ' (--default-bot)'}; {self._connected()}"
            )
        free = [bot for bot in named if bot.room > 0 and bot.id not in (without or ())]
        if not free:
            room = sum(bot.hello.capacity for bot in named)
            why = (
                f"all bots named {wanted!r} are busy, their capacity is {room}: start more "
                "processes, or call later"
                if room
                else f"the bot {wanted!r} takes no callers, its capacity is 0; it only places calls"
            )
            raise NoBot(why, code="bots_busy")
        return min(free, key=lambda bot: (bot.late, len(bot.sessions) / bot.hello.capacity))

    def named(self, name: str) -> list[BotHandle]:
        """The processes of that bot, which share its callers."""
        return [bot for bot in self.all if bot.name == name]

    def names(self) -> dict[str, int]:
        """Every name that a bot has said, and how many processes bear it."""
        return dict(Counter(bot.name for bot in self.all))

    def _connected(self) -> str:
        names = [repr(name) for name in self.names()]
        if not names:
            return "none is: start it"
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        return f"ask for one that is, or start it; there are {', '.join(names[:MAX_NAMED])}{more}"

    async def wait_for(self, name: str, timeout_s: float) -> BotHandle:
        """A bot of that name with room, as soon as there is one. Raises NoBot."""
        try:
            async with asyncio.timeout(timeout_s), self._arrived:
                while True:
                    try:
                        return self.choose(name)
                    except NoBot:
                        await self._arrived.wait()
        except TimeoutError:
            raise NoBot(f"no bot named {name!r} came within {timeout_s:g} s") from None

    async def wait_number(self, number: int) -> None:
        """Return as soon as so many bot processes are registered."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self._by_peer) >= number)

    async def offer(self, bot: BotHandle, offer: OfferSession) -> None:
        """Offer a session; returns once the bot has attached. Raises BotRejected or BotGone."""
        try:
            await self._channel.request(offer, to=bot.peer, timeout_s=self._settings.bot_accept_s)
        except BackbeatError as error:
            if error.code in ("timeout", "peer_gone", "queue_full"):
                self._declined["not_attached"] += 1
                raise BotGone(f"bot {bot.name} did not attach: {error.message}") from error
            self._declined["bot_rejected"] += 1
            raise BotRejected(f"bot {bot.name} declined: {error.message}") from error

    def notify(self, bot: BotHandle, message: Message) -> None:
        """Tell a bot something."""
        self._channel.notify(message, to=bot.peer)

    def released(self, bot: BotHandle, session_id: str) -> None:
        """A session ended: its place is free."""
        bot.sessions.discard(session_id)
        bot.placed.discard(session_id)
        self._wake()

    # -- what bots say ------------------------------------------------------------------

    async def _on_request(self, peer: bytes, message: Message) -> Message:
        bot = self._by_peer.get(peer)
        if isinstance(message, Hello):
            return self._welcome(peer, message)
        if bot is None:
            raise AuthError("say hello first", code="no_hello")
        if isinstance(message, Beat):
            self._heard(bot)
            return Ok()
        return await self._on_bot_request(bot, message)

    def _on_notify(self, peer: bytes, message: Message) -> None:
        bot = self._by_peer.get(peer)
        if bot is None:
            raise AuthError("say hello first", code="no_hello")
        if isinstance(message, Beat):
            self._heard(bot)
            self._channel.notify(message, to=peer)
        elif isinstance(message, Goodbye):
            self._gone(bot, "bot_left")
        else:
            self._on_bot_message(bot, message)

    def _welcome(self, peer: bytes, hello: Hello) -> Welcome:
        if peer in self._by_peer:
            raise AlreadyAttached("this connection has said hello before")
        token = self._settings.bot_token
        if token is not None and not _same(token.get_secret_value(), hello.token):
            raise AuthError("the bot's token is wrong")
        _check_hello(hello)
        bot = BotHandle(f"b_{secrets.token_hex(8)}", peer, hello, self._clock.now_ns())
        self._by_peer[peer] = bot
        self._watch_process(bot)
        log.info("bot_connected", bot=bot.name, id=bot.id, capacity=hello.capacity)
        if len(self.named(bot.name)) == 2:  # said once: it may be meant, or a name taken twice
            log.info("bot_name_shared", bot=bot.name, means="its processes share its callers")
        self._wake()
        return Welcome(
            bot=bot.id, engine=self._runtime.engine_id, beat_ms=self._settings.bot_beat_ms
        )

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._arrived:
                self._arrived.notify_all()

        task = asyncio.create_task(wake(), name="bot arrived")
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

    # -- who is still there -------------------------------------------------------------

    def _heard(self, bot: BotHandle) -> None:
        bot.beat_ns = self._clock.now_ns()
        if bot.late:
            bot.late = False
            log.info("bot_beats_again", bot=bot.name, id=bot.id)

    def _watch_process(self, bot: BotHandle) -> None:
        hello = bot.hello
        if hello.pid <= 0 or not hasattr(os, "pidfd_open"):
            return
        if hello.started != life.started(hello.pid):
            return  # another process: the bot lives in a pid namespace of its own
        try:
            bot.pidfd = os.pidfd_open(hello.pid)
        except OSError:
            return
        asyncio.get_running_loop().add_reader(bot.pidfd, self._ended, bot)

    def _ended(self, bot: BotHandle) -> None:
        """Its process is no more: it has died, unless a goodbye of its is on the way."""
        self._unwatch(bot)
        bot.late = True
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._gone, bot, "bot_died")

    def _unwatch(self, bot: BotHandle) -> None:
        if bot.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(bot.pidfd)
            os.close(bot.pidfd)
            bot.pidfd = -1

    def _gone(self, bot: BotHandle, reason: str) -> None:
        if self._by_peer.pop(bot.peer, None) is None:
            return
        bot.gone = True
        self._unwatch(bot)
        self._channel.forget(bot.peer)
        if bot.hello.bell:
            with contextlib.suppress(OSError):
                (self._runtime.instance / bot.hello.bell).unlink()
        log.info("bot_gone", bot=bot.name, id=bot.id, reason=reason)
        self._on_gone(bot, reason)

    async def _watch(self) -> None:
        before = self._clock.now_ns()
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            now = self._clock.now_ns()
            lag_ns = max(0, now - before - int(WATCH_INTERVAL_S * NS_PER_S))
            before = now
            for bot in self.all:
                bot.beat_ns += lag_ns
                silent_s = (now - bot.beat_ns) / NS_PER_S
                # Without a pidfd (another machine, macOS) silence is all there is to go by.
                if silent_s > (self._settings.bot_stall_s if bot.pidfd >= 0 else REMOTE_GONE_S):
                    self._gone(bot, "bot_stalled")
                elif silent_s > MISSED_BEATS_S and not bot.late:
                    bot.late = True
                    log.warning("bot_stalls", bot=bot.name, id=bot.id)


def _same(secret: str, said: str) -> bool:
    # As bytes: compare_digest takes no other text than ASCII.
    return secrets.compare_digest(secret.encode(), said.encode())


def _check_hello(hello: Hello) -> None:
    if not 0 < len(hello.name) <= MAX_NAME or not hello.name.isprintable():
        raise MalformedMessage(f"a bot's name has 1 to {MAX_NAME} printable characters")
    if not 0 <= hello.capacity <= MAX_CAPACITY:
        raise MalformedMessage(f"a bot's capacity is 0 to {MAX_CAPACITY}, not {hello.capacity}")
    if (hello.bell or hello.media == "shm") and not bell.NAME_PATTERN.fullmatch(hello.bell):
        raise MalformedMessage("a bot that maps memory needs a bell named bell- and hex digits")
    try:
        RingSpec(
            key=bytes(16),
            epoch=0,
            mic_hz=hello.mic_hz,
            speaker_hz=hello.speaker_hz,
            mic_channels=hello.mic_channels,
            speaker_channels=hello.speaker_channels,
        )
    except ConfigError as error:
        raise MalformedMessage(error.message) from error
