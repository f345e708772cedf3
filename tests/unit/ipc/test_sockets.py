from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
import zmq

from ipc import sockets
from ipc.errors import ConfigError
from ipc.sockets import SocketReader, check_endpoint, open_socket
from tests.support import reaches, until

if TYPE_CHECKING:
    from pathlib import Path

    from ipc.sockets import Context


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "tcp://*:0", "tcp://"])
def test_tcp_is_refused_with_its_own_code(endpoint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_endpoint(endpoint)

    assert refused.value.code == "tcp_refused"


@pytest.mark.parametrize(
    "endpoint", ["", "ipc://", "ipc:/x", "/run/x", "pgm://x", "udp://x", "inproc://", "://x"]
)
def test_other_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_endpoint(endpoint)

    assert refused.value.code == "endpoint"


def test_a_path_may_be_as_long_as_the_systems_and_no_longer() -> None:
    check_endpoint("ipc:///" + "x" * 106)

    with pytest.raises(ConfigError) as refused:
        check_endpoint("ipc:///" + "x" * 107)
    assert refused.value.code == "path_too_long"


def test_the_length_of_a_path_counts_bytes() -> None:
    with pytest.raises(ConfigError):
        check_endpoint("ipc:///" + "ü" * 54)


@pytest.mark.parametrize("side", ["bind", "connect"])
def test_a_socket_is_not_opened_at_a_refused_endpoint(context: Context, side: str) -> None:
    tcp = "tcp://127.0.0.1:1"
    bind, connect = (tcp, None) if side == "bind" else (None, tcp)

    with pytest.raises(ConfigError) as refused:
        open_socket(context, zmq.PULL, bind=bind, connect=connect)

    assert refused.value.code == "tcp_refused"


def test_a_path_that_cannot_be_bound_is_a_config_error(context: Context, runtime_dir: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        open_socket(context, zmq.PULL, bind=f"ipc://{runtime_dir}/no/such/place")

    assert refused.value.code == "endpoint"


def test_queues_are_bounded_and_nothing_lingers(context: Context) -> None:
    with open_socket(context, zmq.PUSH, bind="inproc://queue", queue=3) as socket:
        assert socket.getsockopt(zmq.SNDHWM) == socket.getsockopt(zmq.RCVHWM) == 3
        assert socket.getsockopt(zmq.LINGER) == 0
        assert socket.getsockopt(zmq.MAXMSGSIZE) == sockets.MAX_FRAME_BYTES


def test_a_router_says_so_when_its_peer_is_gone(context: Context) -> None:
    with (
        open_socket(context, zmq.ROUTER, bind="inproc://router") as router,
        pytest.raises(zmq.ZMQError),
    ):
        router.send_multipart([b"nobody", b"hello"], zmq.NOBLOCK)


async def test_a_reader_hands_over_every_message_in_order(context: Context) -> None:
    with (
        open_socket(context, zmq.PULL, bind="inproc://order") as pull,
        open_socket(context, zmq.PUSH, connect="inproc://order") as push,
    ):
        seen: list[int] = []
        for number in range(500):
            push.send(str(number).encode())
        reader = SocketReader(pull, lambda frames: seen.append(int(frames[0])))

        await until(lambda: len(seen) == 500)

        assert seen == list(range(500))
        reader.close()


async def test_a_full_socket_lets_others_on_the_loop_have_their_turn(context: Context) -> None:
    with (
        open_socket(context, zmq.PULL, bind="inproc://turns") as pull,
        open_socket(context, zmq.PUSH, connect="inproc://turns") as push,
    ):
        seen: list[bytes] = []
        for _ in range(3 * SocketReader.BURST):
            push.send(b"")
        reader = SocketReader(pull, lambda frames: seen.append(frames[0]))
        turns: list[int] = []

        def note() -> None:
            turns.append(len(seen))
            if len(seen) < 3 * SocketReader.BURST:
                asyncio.get_running_loop().call_soon(note)

        note()
        await until(lambda: len(seen) == 3 * SocketReader.BURST)

        steps = [after - before for before, after in itertools.pairwise(turns)]
        # The first burst may run twice in one turn: once scheduled and once by its descriptor.
        assert max(steps) <= 2 * SocketReader.BURST
        reader.close()


async def test_a_reply_that_came_during_a_send_is_not_forgotten(context: Context) -> None:
    with (
        open_socket(context, zmq.DEALER, bind="inproc://edge") as near,
        open_socket(context, zmq.DEALER, connect="inproc://edge") as far,
    ):
        seen: list[bytes] = []
        reader = SocketReader(near, lambda frames: seen.append(frames[0]))
        await until(lambda: reader._again is None)
        for number in range(100):
            far.send(b"reply")
            near.send(b"request")  # swallows the edge of the descriptor
            reader.look()

            await until(reaches(seen.__len__, number + 1))
        reader.close()


async def test_a_closed_reader_hands_over_nothing_more(context: Context) -> None:
    with (
        open_socket(context, zmq.PULL, bind="inproc://closed") as pull,
        open_socket(context, zmq.PUSH, connect="inproc://closed") as push,
    ):
        seen: list[bytes] = []

        def take(frames: list[bytes]) -> None:
            seen.append(frames[0])
            reader.close()

        reader = SocketReader(pull, take)
        push.send(b"1")
        push.send(b"2")
        await until(lambda: seen)
        reader.close()

        assert pull.recv() == b"2"
        assert seen == [b"1"]
