from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import zmq

from ipc import channel as channel_module
from ipc.errors import BackbeatError, LimitError, NoWorker, Overloaded, RingClosed, StateError
from ipc.messages import Beat, CloseSession, Goodbye, Message, Ok, SendMessage
from ipc.sockets import open_socket
from ipc.wire import encode
from tests.support import DEADLINE_S, until
from tests.unit.ipc.channel_sides import Raw, Side

if TYPE_CHECKING:
    from ipc.sockets import Context


async def test_a_request_is_answered(server: Side, client: Side) -> None:
    server.answer = Beat(number=7)

    answer = await client.channel.request(CloseSession(session="s"), timeout_s=DEADLINE_S)

    assert answer == Beat(number=7)
    assert server.requests == [CloseSession(session="s")]


async def test_both_ends_may_ask(server: Side, client: Side) -> None:
    client.channel.notify(Beat(number=1))
    await until(lambda: server.peer)

    answer = await server.channel.request(Beat(number=2), to=server.peer, timeout_s=DEADLINE_S)

    assert answer == Ok()
    assert client.requests == [Beat(number=2)]


async def test_notifications_arrive_in_order(server: Side, client: Side) -> None:
    beats: list[Message] = [Beat(number=number) for number in range(300)]

    assert all(client.channel.notify(beat) for beat in beats)

    await until(lambda: len(server.notes) == 300)
    assert server.notes == beats


async def test_many_requests_at_once_get_their_own_answers(server: Side, client: Side) -> None:
    async def echo(_peer: bytes, message: Message) -> Message:
        return message

    server.channel._on_request = echo

    answers = await asyncio.gather(
        *(client.channel.request(Beat(number=n), timeout_s=DEADLINE_S) for n in range(200))
    )

    assert answers == [Beat(number=n) for n in range(200)]


async def test_an_error_travels_with_its_class_code_and_message(server: Side, client: Side) -> None:
    server.answer = NoWorker("all are busy", retryable=False)

    with pytest.raises(NoWorker, match="all are busy") as error:
        await client.channel.request(Beat(number=1), timeout_s=DEADLINE_S)

    assert (error.value.code, error.value.retryable) == ("no_worker", False)
    assert server.channel.refused == {"no_worker": 1}


async def test_a_narrowed_code_travels_with_its_class(server: Side, client: Side) -> None:
    server.answer = Overloaded("full", code="shm_full")

    with pytest.raises(Overloaded) as error:
        await client.channel.request(Beat(number=1), timeout_s=DEADLINE_S)

    assert (error.value.code, error.value.retryable) == ("shm_full", True)


async def test_a_bug_in_a_handler_is_an_answer_and_not_an_end(server: Side, client: Side) -> None:
    server.answer = ZeroDivisionError("oops")

    with pytest.raises(BackbeatError, match="ZeroDivisionError: oops") as error:
        await client.channel.request(Beat(number=1), timeout_s=DEADLINE_S)
    server.answer = Ok()

    assert error.value.code == "internal"
    assert server.channel.refused == {"internal": 1}
    assert await client.channel.request(Beat(number=2), timeout_s=DEADLINE_S) == Ok()


async def test_a_bug_in_a_notify_handler_stops_nothing(server: Side, client: Side) -> None:
    server.note_error = ZeroDivisionError("oops")

    client.channel.notify(Beat(number=1))
    client.channel.notify(Beat(number=2))

    await until(lambda: server.channel.refused == {"internal": 2})
    assert server.notes == [Beat(number=1), Beat(number=2)]


async def test_a_refused_notification_is_told_to_its_sender(server: Side, raw: Raw) -> None:
    server.note_error = StateError("not now")

    raw.send(encode(Beat(number=1)))

    assert await raw.refusal() == ("state", None)
    assert server.channel.refused == {"state": 1}


async def test_a_request_has_a_deadline(server: Side, client: Side) -> None:
    server.hold.clear()

    with pytest.raises(BackbeatError, match=r"no answer to Beat in 0\.02 s") as error:
        await client.channel.request(Beat(number=1), timeout_s=0.02)

    assert (error.value.code, error.value.retryable) == ("timeout", True)


async def test_an_answer_after_the_deadline_is_counted_and_ignored(
    server: Side, client: Side
) -> None:
    server.hold.clear()
    with pytest.raises(BackbeatError):
        await client.channel.request(Beat(number=1), timeout_s=0.01)

    server.hold.set()

    await until(lambda: client.channel.refused["late_reply"] == 1)
    assert await client.channel.request(Beat(number=2), timeout_s=DEADLINE_S) == Ok()


async def test_a_cancelled_request_is_forgotten(server: Side, client: Side) -> None:
    server.hold.clear()
    request = asyncio.create_task(client.channel.request(Beat(number=1), timeout_s=DEADLINE_S))
    await until(lambda: server.requests)

    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    server.hold.set()

    await until(lambda: client.channel.refused["late_reply"] == 1)
    assert not client.channel._pending


async def test_a_peer_that_never_was_is_gone(server: Side) -> None:
    with pytest.raises(StateError) as error:
        await server.channel.request(Beat(number=1), to=b"nobody", timeout_s=DEADLINE_S)

    assert error.value.code == "peer_gone"
    assert not server.channel.notify(Beat(number=1), to=b"nobody")
    assert server.channel.dropped == 1


async def test_a_forgotten_peer_fails_only_what_was_asked_of_it(server: Side, client: Side) -> None:
    client.hold.clear()
    client.channel.notify(Beat(number=1))
    await until(lambda: server.peer)
    request = asyncio.create_task(
        server.channel.request(Beat(number=2), to=server.peer, timeout_s=DEADLINE_S)
    )
    await until(lambda: client.requests)

    server.channel.forget(b"another")
    assert not request.done()
    server.channel.forget(server.peer)

    with pytest.raises(BackbeatError) as error:
        await request
    assert error.value.code == "peer_gone"
    client.hold.set()


async def test_a_full_queue_refuses_and_counts(context: Context) -> None:
    side = Side(open_socket(context, zmq.DEALER, connect="inproc://nobody", queue=3))

    sent = [side.channel.notify(Beat(number=number)) for number in range(20)]

    assert not all(sent)
    assert side.channel.dropped == sent.count(False)
    with pytest.raises(LimitError) as error:
        await side.channel.request(Beat(number=1), timeout_s=DEADLINE_S)
    assert (error.value.code, error.value.retryable) == ("queue_full", True)
    await side.channel.close()


async def test_an_answer_that_is_too_large_is_a_failure_and_not_silence(
    server: Side, client: Side
) -> None:
    server.answer = SendMessage(session="s", data="x" * (2 << 20))

    with pytest.raises(BackbeatError) as error:
        await client.channel.request(Beat(number=1), timeout_s=DEADLINE_S)

    assert error.value.code == "message_too_large"


async def test_a_message_that_is_too_large_is_not_sent(server: Side, client: Side) -> None:
    large = SendMessage(session="s", data="x" * (2 << 20))

    assert not client.channel.notify(large)
    with pytest.raises(BackbeatError) as error:
        await client.channel.request(large, timeout_s=DEADLINE_S)

    assert error.value.code == "message_too_large"
    assert not client.channel._pending
    assert await client.channel.request(Beat(number=1), timeout_s=DEADLINE_S) == Ok()


async def test_too_many_requests_at_once_are_refused(
    server: Side, client: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "MAX_RUNNING", 2)
    server.hold.clear()
    first = [
        asyncio.create_task(client.channel.request(Beat(number=n), timeout_s=DEADLINE_S))
        for n in range(2)
    ]
    await until(lambda: len(server.requests) == 2)

    with pytest.raises(BackbeatError) as error:
        await client.channel.request(Beat(number=3), timeout_s=DEADLINE_S)
    server.hold.set()

    assert error.value.code == "too_many_requests"
    assert await asyncio.gather(*first) == [Ok(), Ok()]


async def test_closing_fails_what_is_pending_and_what_comes_after(
    server: Side, client: Side
) -> None:
    server.hold.clear()
    pending = asyncio.create_task(client.channel.request(Beat(number=1), timeout_s=DEADLINE_S))
    await until(lambda: server.requests)

    await client.channel.close()
    await client.channel.close()

    with pytest.raises(BackbeatError) as error:
        await pending
    assert error.value.code == "channel_closed"
    with pytest.raises(RingClosed):
        await client.channel.request(Beat(number=2), timeout_s=DEADLINE_S)
    assert not client.channel.notify(Beat(number=3))


async def test_closing_ends_running_requests(server: Side, client: Side) -> None:
    server.hold.clear()
    request = asyncio.create_task(client.channel.request(Beat(number=1), timeout_s=0.1))
    await until(lambda: server.requests)

    await server.channel.close()

    assert not server.channel._running
    with pytest.raises(BackbeatError):
        await request


async def test_a_handler_may_close_its_own_channel(server: Side, client: Side) -> None:
    async def close(_peer: bytes, _message: Message) -> Message:
        await server.channel.close()
        closed.set()
        return Ok()

    closed = asyncio.Event()
    server.channel._on_request = close
    request = asyncio.create_task(client.channel.request(Beat(number=1), timeout_s=0.1))

    await asyncio.wait_for(closed.wait(), 30)

    with pytest.raises(BackbeatError):
        await request


async def test_what_is_said_just_before_closing_still_arrives(server: Side, client: Side) -> None:
    client.channel.notify(Goodbye())
    await client.channel.close()

    await until(lambda: server.notes == [Goodbye()])
