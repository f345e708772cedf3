"""Calls through STUN and TURN servers, and in spite of those that are of no use."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.audio import tone_source
from tests.fakes.bot import echo_bot, serving
from tests.fakes.caller import FakeCaller
from tests.fakes.relayed import FirewalledCaller, RelayedCaller
from tests.fakes.serve import ServeProcess, environment
from tests.fakes.turn import TurnServer
from tests.support import until

if TYPE_CHECKING:
    from pathlib import Path


def told(*servers: tuple[str, TurnServer]) -> dict[str, str]:
    """The environment of a `serve` that uses these."""
    given: list[Any] = []
    for scheme, server in servers:
        tcp = "tcp" in scheme
        host, port = server.tcp_address if tcp else server.address
        url = f"{scheme.partition('?')[0]}:{host}:{port}" + ("?transport=tcp" if tcp else "")
        secrets = {"username": "ada", "credential": "swordfish"} if "turn" in scheme else {}
        given.append({"urls": url, **secrets})
    return environment(BACKBEAT_ICE_SERVER=json.dumps(given))


async def path_of(serve: ServeProcess, caller: FakeCaller) -> tuple[str, str]:
    """The kinds of both ends of the path that the call has taken."""
    async with serve.client() as client:
        records = (await client.get(f"/api/sessions/{caller.pc_id}/stats")).json()
    (pair,) = [one for one in records.values() if one["type"] == "candidate-pair"]
    ends = (records[pair["localCandidateId"]], records[pair["remoteCandidateId"]])
    return ends[0]["candidateType"], ends[1]["candidateType"]


@pytest.mark.parametrize("scheme", ["turn", "turn?transport=tcp"])
async def test_a_caller_whom_only_our_relay_reaches_hears_and_is_heard(
    runtime_dir: Path, scheme: str
) -> None:
    async with (
        TurnServer() as server,
        ServeProcess(runtime_dir, env=told((scheme, server))) as serve,
    ):
        await serve.settled()
        async with FirewalledCaller(serve.url, server, tone_source(600)) as caller:
            await caller.hears(600)
            assert (await path_of(serve, caller))[0] == "relay"
            server.forget_nonce()
            caller.say(tone_source(850))
            await caller.hears(850)
        assert "swordfish" not in serve.log()


async def test_a_caller_who_has_only_a_relay_of_its_own_hears_and_is_heard(
    serve: ServeProcess,
) -> None:
    async with (
        TurnServer() as server,
        serving(echo_bot(), serve.endpoint),
        RelayedCaller(serve.url, server, tone_source(600)) as caller,
    ):
        await caller.hears(600)
        local, remote = await path_of(serve, caller)
        assert (local, remote) == ("host", "relay")


async def test_a_call_that_ends_gives_its_relay_back(runtime_dir: Path) -> None:
    async with (
        TurnServer() as server,
        ServeProcess(runtime_dir, env=told(("turn", server))) as serve,
    ):
        await serve.settled()
        async with FirewalledCaller(serve.url, server, tone_source(600)) as caller:
            await caller.hears(600)
            assert len(server.allocations) == 1
        await until(lambda: not server.allocations, what="the end of the allocation")


async def test_servers_that_say_nothing_do_not_cost_the_call(runtime_dir: Path) -> None:
    async with (
        TurnServer(silent=True) as server,
        ServeProcess(runtime_dir, env=told(("stun", server), ("turn", server))) as serve,
    ):
        await serve.settled()
        async with FakeCaller(serve.url, tone_source(600)) as caller:
            await caller.hears(600)
            assert await path_of(serve, caller) == ("host", "host")
            kinds = set(re.findall(r" typ (\S+)", caller.answers[-1]))
            assert kinds == {"host"}
        for kind in ("STUN", "TURN"):
            assert (
                f"the {kind} server 127.0.0.1:{server.address[1]} has not answered" in serve.log()
            )


async def test_a_stun_server_tells_callers_where_we_are(runtime_dir: Path) -> None:
    async with TurnServer() as server:
        server.mapped = ("198.51.100.9", 4_000)
        async with ServeProcess(runtime_dir, env=told(("stun", server))) as serve:
            await serve.settled()
            async with FakeCaller(serve.url, tone_source(600)) as caller:
                assert "198.51.100.9 4000 typ srflx" in caller.answers[-1]
                await caller.hears(600)
