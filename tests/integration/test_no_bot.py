"""Calls that cannot be taken are refused at once, with a status and a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import offers
from tests.fakes.bot import echo_bot, serving
from tests.fakes.caller import FakeCaller, Refused
from tests.fakes.serve import ServeProcess, run_serve
from tests.support import until

if TYPE_CHECKING:
    from pathlib import Path

GOOD = offers.offer(offers.audio("0"), offers.data("1"))


async def post(serve: ServeProcess, **more: Any) -> tuple[int, dict[str, Any]]:
    async with serve.client() as client:
        response = await client.post("/api/offer", json={"sdp": GOOD, "type": "offer", **more})
        return response.status_code, response.json()


async def test_without_a_bot_callers_are_refused_at_once(serve: ServeProcess) -> None:
    status, body = await post(serve)
    assert (status, body["code"]) == (503, "no_bot")
    assert "no bot is connected" in body["detail"]
    status, health = await serve.health()
    assert status == 503
    assert any("no bot" in reason for reason in health["reasons"])
    assert health["sessions"] == 0


async def test_a_busy_bot_refuses_until_it_has_room_again(serve: ServeProcess) -> None:
    async with (
        serving(echo_bot(capacity=1), serve.endpoint) as bot,
    ):
        async with FakeCaller(serve.url) as first:
            await first.hears(440)
            with pytest.raises(Refused) as refused:
                async with FakeCaller(serve.url):
                    pass
            assert (refused.value.status, refused.value.body["code"]) == (503, "bots_busy")
            await first.hears(440)
        await until(lambda: not bot.sessions, what="the end of the first call")
        async with FakeCaller(serve.url) as second:
            await second.hears(440)


async def test_a_bot_of_capacity_0_takes_no_caller(serve: ServeProcess) -> None:
    async with (
        serving(echo_bot(capacity=0), serve.endpoint),
    ):
        status, body = await post(serve)
        assert (status, body["code"]) == (503, "bots_busy")


async def test_a_caller_gets_the_bot_it_names_and_no_other(serve: ServeProcess) -> None:
    async with (
        serving(echo_bot("one"), serve.endpoint) as one,
        serving(echo_bot("two"), serve.endpoint) as two,
    ):
        async with FakeCaller(serve.url, request_data={"bot": "two"}) as caller:
            await caller.hears(440)
            assert (len(one.sessions), len(two.sessions)) == (0, 1)
        async with FakeCaller(serve.url) as caller:
            await caller.hears(440)
            assert len(one.sessions) == 1
        status, body = await post(serve, request_data={"bot": "three"})
        assert (status, body["code"]) == (503, "no_bot")
        assert "three" in body["detail"]


async def test_the_default_bot_is_the_one_that_the_settings_name(runtime_dir: Path) -> None:
    async with (
        ServeProcess(runtime_dir, "--bots", "0", "--default-bot", "two") as serve,
        serving(echo_bot("one"), serve.endpoint) as one,
    ):
        status, body = await post(serve)
        assert (status, body["code"]) == (503, "no_bot")
        async with (
            serving(echo_bot("two"), serve.endpoint) as two,
            FakeCaller(serve.url) as caller,
        ):
            await caller.hears(440)
            assert (len(one.sessions), len(two.sessions)) == (0, 1)


async def test_more_sessions_than_the_engine_may_hold_are_refused(runtime_dir: Path) -> None:
    async with (
        ServeProcess(runtime_dir, "--bots", "0", "--max-sessions", "1") as serve,
        serving(echo_bot(), serve.endpoint),
        FakeCaller(serve.url) as caller,
    ):
        status, body = await post(serve)
        assert (status, body["code"]) == (503, "overloaded")
        await caller.hears(440)


async def test_a_bot_that_cannot_be_served_ends_serve_with_its_reason(
    runtime_dir: Path, tmp_path: Path
) -> None:
    code, out, err = await run_serve(
        *("--runtime-dir", str(runtime_dir), "--port", "0", "--workers", "1"),
        *("--bot", str(tmp_path / "nowhere.py")),
    )
    assert code == 1
    assert "ready" not in out
    assert "there is no Python file" in err
    assert "cannot be started" in err


async def test_serve_is_ready_only_when_its_own_bots_are(runtime_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text(
        "import time\nfrom engine.sdk import Bot\ntime.sleep(1)\nbot = Bot('slow')\n\n"
        "@bot.session\nasync def stay(session):\n    await session.wait_closed()\n"
    )
    async with ServeProcess(runtime_dir, "--bot", str(file)) as serve:
        status, health = await serve.health()
        # A machine that is too busy is told so, and then ready is who may not be.
        assert status == 200 or "may still be loading" in serve.log(), health


async def test_a_caller_of_a_bot_that_leaves_at_once_is_let_in_and_told(
    runtime_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "hasty.py"
    file.write_text(
        "from engine.sdk import Bot\nbot = Bot('hasty')\n\n"
        "@bot.session\nasync def leave(session):\n    pass\n"
    )
    async with ServeProcess(runtime_dir, "--bot", str(file)) as serve:
        await serve.settled()
        caller = FakeCaller(serve.url)
        try:
            await caller.dial()
            await caller.until(lambda: "closed" in caller.states, "the end of the call")
            assert "connected" in caller.states
        finally:
            await caller.close()
