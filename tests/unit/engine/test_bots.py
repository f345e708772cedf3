"""Which bot gets a call, and which hello is one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import pytest

from engine.bots import BotHandle, Bots, _check_hello
from engine.config import Settings
from ipc.channel import Channel
from ipc.errors import MalformedMessage, NoBot
from ipc.messages import Goodbye, Hello
from tests.support import until

if TYPE_CHECKING:
    from ipc.clock import ManualClock
    from ipc.runtime_dir import RuntimeDir
    from ipc.sockets import Context


class Gateway:
    """`Bots` with handles put in by hand: nobody said hello."""

    def __init__(self, clock: ManualClock, **settings: Any) -> None:
        async def no_request(*_: object) -> Any:
            pytest.fail("nobody asks")

        self.gone: list[str] = []
        self.bots = Bots(
            Settings(**settings),
            cast("RuntimeDir", None),
            cast("Context", None),
            clock,
            on_request=no_request,
            on_message=lambda *_: None,
            on_gone=lambda _bot, reason: self.gone.append(reason),
        )
        self.bots._channel = mock.create_autospec(Channel, instance=True)

    def add(
        self, identity: str, name: str = "echo", *, capacity: int = 4, busy: int = 0
    ) -> BotHandle:
        hello = Hello(name=name, capacity=capacity)
        bot = BotHandle(identity, identity.encode(), hello, 0)
        bot.sessions.update(f"s{number}" for number in range(busy))
        self.bots._by_peer[bot.peer] = bot
        return bot


@pytest.fixture
def gateway(clock: ManualClock) -> Gateway:
    return Gateway(clock)


def test_without_a_name_the_first_known_bot_is_meant(gateway: Gateway) -> None:
    first = gateway.add("b1", "one")
    gateway.add("b2", "two")
    assert gateway.bots.choose(None) is first


def test_the_default_bot_is_meant_also_while_it_is_away(clock: ManualClock) -> None:
    gateway = Gateway(clock, default_bot="two")
    gateway.add("b1", "one")
    with pytest.raises(NoBot, match="two"):
        gateway.bots.choose(None)
    with pytest.raises(NoBot, match="--default-bot"):
        gateway.bots.choose(None)
    two = gateway.add("b2", "two")
    assert gateway.bots.choose(None) is two


def test_the_least_loaded_process_by_its_own_capacity_is_chosen(gateway: Gateway) -> None:
    gateway.add("b1", capacity=10, busy=5)
    wide = gateway.add("b2", capacity=100, busy=20)
    gateway.add("b3", capacity=2, busy=1)
    assert gateway.bots.choose("echo") is wide


def test_a_process_that_stalls_is_the_last_choice(gateway: Gateway) -> None:
    late = gateway.add("b1")
    late.late = True
    busy = gateway.add("b2", busy=3)
    assert gateway.bots.choose("echo") is busy
    busy.sessions.add("one more")
    assert gateway.bots.choose("echo") is late


def test_full_processes_and_those_tried_before_are_left_out(gateway: Gateway) -> None:
    gateway.add("b1", capacity=1, busy=1)
    gateway.add("b2")
    third = gateway.add("b3", busy=2)
    assert gateway.bots.choose("echo", {"b2"}) is third
    with pytest.raises(NoBot) as refused:
        gateway.bots.choose("echo", {"b2", "b3"})
    assert refused.value.code == "bots_busy"


def test_a_capacity_of_0_is_never_chosen(gateway: Gateway) -> None:
    gateway.add("b1", capacity=0)
    with pytest.raises(NoBot, match="capacity is 0") as refused:
        gateway.bots.choose(None)
    assert refused.value.code == "bots_busy"


def test_nobody_and_nobody_of_that_name_are_told_apart(gateway: Gateway) -> None:
    with pytest.raises(NoBot, match="no bot is connected"):
        gateway.bots.choose(None)
    with pytest.raises(NoBot, match="'ada' is connected to this engine; none is"):
        gateway.bots.choose("ada")
    gateway.add("b1")
    gateway.add("b2", "talk")
    gateway.add("b3")
    with pytest.raises(NoBot, match=r"'ada'.*there are 'echo', 'talk'$"):
        gateway.bots.choose("ada")


def test_a_refusal_names_only_so_many_bots_and_so_much_of_a_name(gateway: Gateway) -> None:
    for number in range(12):
        gateway.add(f"b{number}", f"bot{number}")
    with pytest.raises(NoBot) as refused:
        gateway.bots.choose("x" * 10_000)
    assert refused.value.message.endswith("'bot7' and 4 more")
    assert len(refused.value.message) < 300


def test_processes_that_bear_one_name_are_counted(gateway: Gateway) -> None:
    assert gateway.bots.names() == {}
    first, _, third = (gateway.add("b1"), gateway.add("b2", "talk"), gateway.add("b3"))
    assert gateway.bots.names() == {"echo": 2, "talk": 1}
    assert gateway.bots.named("echo") == [first, third]


async def test_who_waits_for_a_bot_gets_the_place_that_becomes_free(gateway: Gateway) -> None:
    bot = gateway.add("b1", capacity=1, busy=1)
    waiting = asyncio.create_task(gateway.bots.wait_for("echo", 5))
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    gateway.bots.released(bot, "s0")
    assert await waiting is bot


async def test_who_waits_in_vain_is_told_so(gateway: Gateway) -> None:
    with pytest.raises(NoBot, match="0 s"):
        await gateway.bots.wait_for("echo", 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\x00b"},
        {"capacity": -1},
        {"mic_hz": 11_025},
        {"speaker_channels": 3},
        {"bell": ""},
        {"bell": "bell-01234567\n"},
        {"bell": "bell-0123456g"},
    ],
)
def test_a_hello_that_cannot_be_served_is_malformed(fields: dict[str, Any]) -> None:
    good: dict[str, Any] = {"name": "echo", "bell": "bell-01234567"}
    _check_hello(Hello(**good))
    with pytest.raises(MalformedMessage):
        _check_hello(Hello(**(good | fields)))


def test_a_bot_over_zmq_needs_no_bell() -> None:
    _check_hello(Hello(name="remote", media="zmq"))


async def test_a_process_that_says_goodbye_and_ends_has_left_also_if_its_end_is_seen_first(
    gateway: Gateway,
) -> None:
    bot, other = gateway.add("b1"), gateway.add("b2", busy=3)
    gateway.bots._ended(bot)
    assert gateway.bots.choose(None) is other, "nobody is sent to it meanwhile"
    gateway.bots._on_notify(bot.peer, Goodbye())
    assert gateway.gone == ["bot_left"]


async def test_a_process_that_ends_without_a_word_has_died(gateway: Gateway) -> None:
    bot = gateway.add("b1")
    gateway.bots._ended(bot)
    await until(lambda: gateway.gone, what="its end")
    assert gateway.gone == ["bot_died"]
    assert bot.gone
