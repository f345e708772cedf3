"""Bots that lie, shout or stay silent get an answer with a code and harm nobody else."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from tests.fakes.audio import tone_source
from tests.fakes.bot import FakeBot, echo_bot, serving
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess, environment, serve_of_a_module

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("hostile bots")

names = (f"hostile {number}" for number in itertools.count())
TOKEN = "a bot's secret"


@pytest.fixture(scope="module")
def serve() -> Iterator[ServeProcess]:
    env = environment(BACKBEAT_BOT_TOKEN=TOKEN)
    # Longer than a core may be taken away from a bot that means well.
    options = ("--bot-accept-s", "3", "--default-bot", "echo")
    with serve_of_a_module(*options, env=env) as process:
        yield process


@pytest.fixture
async def calls_go_on(serve: ServeProcess) -> Any:
    """A call that began before the test hears its bot after it, and so does a new one."""
    await serve.settled()
    async with FakeCaller(serve.url, tone_source(440)) as before:
        await before.hears(440)
        yield
        before.forget()
        await before.hears(440)
        async with FakeCaller(serve.url, tone_source(900)) as after:
            await after.hears(900)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.usefixtures("calls_go_on")
async def test_what_is_no_message_is_answered_with_a_code(serve: ServeProcess) -> None:
    cases: list[tuple[bytes, str]] = [
        (b"", "malformed_message"),
        (b"\xc1" * 100, "malformed_message"),
        (b"GET / HTTP/1.1\r\n\r\n", "malformed_message"),
        (b"\x91" * 100_000, "malformed_message"),
        (msgpack.packb([1, 2, 3]), "malformed_message"),
        (msgpack.packb({"v": 1, "t": "beat"}) + b"more", "malformed_message"),
        (msgpack.packb({"v": 1, "t": "hello", "name": nested(40)}), "malformed_message"),
        (msgpack.packb({"v": 1, "t": "hello", "name": 5}), "malformed_message"),
        (msgpack.packb({"v": 1, "t": "hello"}), "malformed_message"),
        (
            msgpack.packb({"v": 1, "t": "hello", "name": msgpack.ExtType(5, b"x")}),
            "malformed_message",
        ),
        (msgpack.packb({"v": 1, "t": "no_such_type"}), "unknown_message"),
        (msgpack.packb({"v": 1, "t": None}), "unknown_message"),
        (msgpack.packb({"v": 1}), "unknown_message"),
        (msgpack.packb({"v": 2, "t": "hello", "name": "x"}), "version_mismatch"),
        (msgpack.packb({"t": "hello", "name": "x"}), "version_mismatch"),
        (bytes(2 << 20), "message_too_large"),
    ]
    async with FakeBot(serve.endpoint) as bot:
        for data, code in cases:
            await bot.raw(data)
            answer = await bot.hear()
            assert (answer["t"], answer["code"]) == ("failure", code), data[:40]
            assert answer["message"]
        await bot.raw(b"one", b"two")
        assert (await bot.hear())["code"] == "malformed_message"


@pytest.mark.usefixtures("calls_go_on")
async def test_a_frame_over_8_mib_cuts_only_that_connection(serve: ServeProcess) -> None:
    async with FakeBot(serve.endpoint) as bot:
        await bot.raw(bytes(9 << 20))
        answer = await bot.hello(next(names), token=TOKEN)
        assert answer["t"] == "welcome"


async def test_a_request_is_answered_under_its_number_even_when_it_is_refused(
    serve: ServeProcess,
) -> None:
    async with FakeBot(serve.endpoint) as bot:
        for kind, code in (("no_such_type", "unknown_message"), ("beat", "malformed_message")):
            assert (await bot.ask(kind))["code"] == code
        assert (await bot.ask("hello", v=7))["code"] == "version_mismatch"


async def test_before_its_hello_a_bot_may_do_nothing(serve: ServeProcess) -> None:
    async with FakeBot(serve.endpoint) as bot:
        assert (await bot.ask("beat", number=1))["code"] == "no_hello"
        assert (await bot.ask("close_session", session="s_1"))["code"] == "no_hello"
        await bot.say("send_message", session="s_1", data=1)
        assert (await bot.hear())["code"] == "no_hello"
        await bot.say("goodbye")
        assert (await bot.hear())["code"] == "no_hello"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "ä\u20ac"])
async def test_a_wrong_token_is_refused(serve: ServeProcess, token: str) -> None:
    async with FakeBot(serve.endpoint) as bot:
        answer = await bot.hello(next(names), token=token)
        assert (answer["t"], answer["code"]) == ("failure", "unauthorized")
        assert TOKEN not in answer["message"]
        assert (await bot.ask("beat", number=1))["code"] == "no_hello"


@pytest.mark.parametrize(
    "fields",
    [
        {"mic_hz": 44_100},
        {"mic_hz": 0},
        {"speaker_hz": -48_000},
        {"speaker_hz": 2**40},
        {"mic_channels": 3},
        {"speaker_channels": 0},
        {"capacity": -1},
        {"capacity": 10**9},
        {"capacity": "many"},
        {"bell": ""},
        {"bell": "../bots"},
        {"bell": "bell-0123456789abcdef0"},
        {"bell": "bell-01234567\n"},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "new\nline"},
        {"media": "tcp"},
        {"pid": "self"},
    ],
)
async def test_a_hello_with_impossible_values_is_refused(
    serve: ServeProcess, fields: dict[str, Any]
) -> None:
    async with FakeBot(serve.endpoint) as bot:
        said = {"name": next(names), "token": TOKEN} | fields
        answer = await bot.hello(**said)
        assert (answer["t"], answer["code"]) == ("failure", "malformed_message")


async def test_a_hello_with_strange_but_possible_values_is_taken(serve: ServeProcess) -> None:
    for fields in ({"pid": -1}, {"pid": 2**31}, {"pid": 1}, {"started": -1.0}, {"future": [1]}):
        async with FakeBot(serve.endpoint) as bot:
            answer = await bot.hello(next(names), token=TOKEN, **fields)
            assert answer["t"] == "welcome", (fields, answer)


async def test_a_second_hello_on_one_line_is_refused(serve: ServeProcess) -> None:
    async with FakeBot(serve.endpoint) as bot:
        assert (await bot.hello(next(names), token=TOKEN))["t"] == "welcome"
        assert (await bot.hello(next(names), token=TOKEN))["code"] == "already_attached"
        assert (await bot.ask("beat", number=1))["t"] == "ok"


@pytest.mark.usefixtures("calls_go_on")
async def test_a_bot_cannot_touch_the_session_of_another(serve: ServeProcess) -> None:
    bot = echo_bot(next(names))
    async with (
        serving(bot, serve.endpoint, token=TOKEN),
        FakeCaller(serve.url, request_data={"bot": bot.name}) as caller,
        FakeBot(serve.endpoint) as hostile,
    ):
        await caller.hears(440)
        session = next(iter(bot.sessions))
        assert (await hostile.hello(next(names), token=TOKEN))["t"] == "welcome"
        for name in (session, "", "s_" + "0" * 40, "x" * 100_000):
            answer = await hostile.ask("close_session", session=name)
            assert answer["code"] == "session_not_found"
        await hostile.say("send_message", session=session, data="boo")
        assert (await hostile.hear())["code"] == "session_not_found"
        caller.forget()
        await caller.hears(440)
        assert caller.messages == []


async def test_messages_that_only_an_engine_or_worker_sends_are_refused(
    serve: ServeProcess,
) -> None:
    async with FakeBot(serve.endpoint) as bot:
        await bot.hello(next(names), token=TOKEN)
        welcome: dict[str, Any] = {"bot": "b", "engine": "e", "beat_ms": 1}
        assert (await bot.ask("welcome", **welcome))["code"] == "unknown_message"
        offer: dict[str, Any] = {"session": "s", "sdp": "v=0"}
        assert (await bot.ask("offer", **offer))["code"] == "unknown_message"
        hello: dict[str, Any] = {"worker": "w1", "pid": 1, "token": ""}
        assert (await bot.ask("worker_hello", **hello))["code"] == "unknown_message"
        await bot.say("session_closed", session="s", reason="x")
        assert (await bot.hear())["code"] == "unknown_message"


@pytest.mark.usefixtures("calls_go_on")
async def test_a_flood_of_nonsense_does_not_stop_the_engine(serve: ServeProcess) -> None:
    async with FakeBot(serve.endpoint) as bot:
        for _ in range(5_000):
            await bot.raw(b"\xc1")
        answer = await bot.hello(next(names), token=TOKEN)
        assert answer["t"] == "welcome"


@pytest.mark.usefixtures("calls_go_on")
async def test_a_bot_that_never_answers_an_offer_costs_the_caller_only_its_deadline(
    serve: ServeProcess,
) -> None:
    async with FakeBot(serve.endpoint) as mute:
        name = next(names)
        await mute.hello(name, token=TOKEN)
        async with FakeCaller(serve.url, request_data={"bot": name}) as caller:
            offered = await mute.offer()
            await caller.until(lambda: caller.left, "peerLeft")
        # What comes late is refused, and the bot is none the worse for it.
        await mute.reply(offered)
        assert (await mute.ask("beat", number=1))["t"] == "ok"


@pytest.mark.parametrize("how", ["silent", "refuses", "answers nonsense"])
async def test_a_bot_that_does_not_attach_loses_the_call_to_the_next_one(
    serve: ServeProcess, how: str
) -> None:
    name = next(names)
    caller = FakeCaller(serve.url, tone_source(600), request_data={"bot": name})
    async with FakeBot(serve.endpoint) as first, AsyncExitStack() as stack:
        await first.hello(name, token=TOKEN, capacity=100)
        stack.push_async_callback(caller.close)
        await caller.dial()
        # The next one comes only now: it would be asked first if this one was silent before.
        offered = await first.offer()
        await stack.enter_async_context(
            serving(echo_bot(name, capacity=1), serve.endpoint, token=TOKEN)
        )
        if how == "refuses":
            await first.reply(offered, "failure", code="bot_rejected", message="no")
        elif how == "answers nonsense":
            await first.reply(offered, "no_such_type")
        await caller.hears(600)
