"""The command `serve`: settings, conflicts with what runs already, and a clean end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.fakes import offers
from tests.fakes.audio import tone_source
from tests.fakes.bot import echo_bot, serving
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess, environment, run_serve

if TYPE_CHECKING:
    from pathlib import Path

ALONE = ("--port", "0", "--workers", "1", "--bots", "0", "--ice-address", "127.0.0.1")


def only_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve_ends_cleanly_in_the_middle_of_a_call(
    runtime_dir: Path, number: signal.Signals
) -> None:
    async with ServeProcess(runtime_dir) as serve:
        await serve.settled()
        children = serve.children()
        async with FakeCaller(serve.url) as caller:
            await caller.hears(440)
            serve.terminate(number)
            await caller.until(lambda: caller.left, "peerLeft")
            assert await serve.ended() == 0
        assert not any(child.is_running() for child in children)
        assert [path.name for path in runtime_dir.iterdir()] == ["lock"]
        assert "Traceback" not in serve.log()


async def test_a_second_serve_in_the_same_directory_ends_with_one_line(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir, "--bots", "0"):
        code, out, err = await run_serve("--runtime-dir", str(runtime_dir), *ALONE)
        assert code == 1
        assert "another engine serves" in only_line(err)
        assert "ready" not in out


async def test_a_busy_http_port_ends_serve_with_one_line(runtime_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = await run_serve(
            "--runtime-dir", str(runtime_dir), *ALONE, "--port", str(port)
        )
    assert code == 1
    assert str(port) in only_line(err)
    assert "http_port" in err


@pytest.mark.parametrize(
    ("arguments", "env", "word"),
    [
        ([], {"BACKBEAT_FOO": "1"}, "BACKBEAT_FOO is no setting"),
        ([], {"BACKBEAT_MIC_MS": "99999999"}, "mic_ms"),
        (["--config", "/nowhere.toml"], {}, "/nowhere.toml"),
    ],
)
async def test_a_setting_that_cannot_be_honoured_is_named_in_one_line(
    runtime_dir: Path, arguments: list[str], env: dict[str, str], word: str
) -> None:
    code, out, err = await run_serve(
        "--runtime-dir", str(runtime_dir), *ALONE, *arguments, env=environment(**env)
    )
    assert (code, out) == (1, "")
    assert word in only_line(err)


@pytest.mark.parametrize(
    ("toml", "word"),
    [("foo = 1\n", "'foo' is no setting"), ("bots = \n", "not TOML")],
)
async def test_a_bad_settings_file_is_named_in_one_line(
    runtime_dir: Path, tmp_path: Path, toml: str, word: str
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(toml)
    code, _, err = await run_serve("--runtime-dir", str(runtime_dir), *ALONE, "--config", str(file))
    assert code == 1
    assert word in only_line(err)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--no-such-flag", "1"], "--no-such-flag"), (["--workers", "many"], "--workers")],
)
async def test_a_flag_that_does_not_exist_or_fit_is_named(
    runtime_dir: Path, arguments: list[str], word: str
) -> None:
    code, out, err = await run_serve("--runtime-dir", str(runtime_dir), *arguments)
    assert (code, out) == (2, "")
    assert word in err
    assert "Traceback" not in err


async def test_an_ice_address_that_is_none_ends_serve_with_the_reason(runtime_dir: Path) -> None:
    code, _, err = await run_serve(
        "--runtime-dir", str(runtime_dir), *ALONE, "--ice-address", "here"
    )
    assert code == 1
    assert "ice_address" in only_line(err)
    assert "'here'" in err


async def test_flags_beat_the_environment_which_beats_the_file(
    runtime_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("mic_ms = 1001\nspeaker_ms = 501\nconnect_s = 11\n")
    env = environment(
        BACKBEAT_MIC_MS="1002",
        BACKBEAT_SPEAKER_MS="502",
        BACKBEAT_CONFIG=str(file),
        BACKBEAT_BOT_TOKEN="a very secret token",
    )
    async with ServeProcess(runtime_dir, "--bots", "0", "--mic-ms", "1003", env=env) as serve:
        printed = dict(
            line.split(" = ", 1) for line in serve.output().splitlines() if " = " in line
        )
        assert printed["mic_ms"] == "1003"
        assert printed["speaker_ms"] == "502"
        assert float(printed["connect_s"]) == 11
        assert "bot_token" in printed
        assert "beat_ms" not in printed, "only what was given is told"
        assert "very secret" not in serve.log()


async def test_a_secret_is_not_seen_among_the_processes(runtime_dir: Path) -> None:
    env = environment(BACKBEAT_BOT_TOKEN="a very secret token")
    async with ServeProcess(runtime_dir, env=env) as serve:
        await serve.settled()
        for child in serve.children():
            assert "very secret" not in " ".join(child.cmdline())
        async with FakeCaller(serve.url) as caller:
            await caller.hears(440)


async def test_packages_of_the_same_names_elsewhere_are_without_effect(
    runtime_dir: Path, tmp_path: Path
) -> None:
    for name in ("ipc", "engine", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    env = environment(PYTHONPATH=str(tmp_path))
    async with ServeProcess(runtime_dir, env=env, cwd=tmp_path) as serve:
        await serve.settled()
        async with FakeCaller(serve.url) as caller:
            await caller.hears(440)


@pytest.mark.parametrize("mode", [0o755])
async def test_a_runtime_directory_that_is_open_to_others_is_refused(
    runtime_dir: Path, mode: int
) -> None:
    directory = runtime_dir / "open"
    directory.mkdir()
    directory.chmod(mode)
    code, _, err = await run_serve("--runtime-dir", str(directory), *ALONE)
    directory.rmdir()
    assert code == 1
    assert "open to others" in only_line(err)


async def test_a_runtime_directory_with_too_long_a_path_is_refused(runtime_dir: Path) -> None:
    code, _, err = await run_serve("--runtime-dir", str(runtime_dir / ("x" * 60)), *ALONE)
    assert code == 1
    assert "longer than" in only_line(err)


def _own_shm(kib: int) -> list[str]:
    script = f'mount -t tmpfs -o size={kib}k tmpfs /dev/shm && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, "sh"]


def _may_unshare() -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    return subprocess.run([*_own_shm(64), "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not _may_unshare(), reason="this user may not mount a /dev/shm of its own")
async def test_a_full_shared_memory_refuses_calls_and_nothing_else(runtime_dir: Path) -> None:
    good = offers.offer(offers.audio("0"), offers.data("1"))
    async with ServeProcess(runtime_dir, prefix=_own_shm(700)) as serve:
        await serve.settled()
        async with FakeCaller(serve.url, tone_source(440)) as caller:
            await caller.hears(440)
            async with serve.client() as client:
                response = await client.post("/api/offer", json={"sdp": good, "type": "offer"})
                assert response.status_code == 503
                assert response.json()["code"] == "shm_full"
                assert "--shm-size" in response.json()["detail"]
                assert (await client.get("/health/live")).status_code == 200
            caller.forget()
            await caller.hears(440)
            assert "Traceback" not in serve.log()


async def test_an_engine_without_own_bots_serves_those_that_come(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir, "--bots", "0") as serve:
        assert serve.bot_pids() == []
        async with serving(echo_bot(), serve.endpoint), FakeCaller(serve.url) as caller:
            await caller.hears(440)
