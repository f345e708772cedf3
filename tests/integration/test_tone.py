"""A tone that a caller sends comes back from a bot: same pitch, same loudness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.audio import silence_source, tone_source
from tests.fakes.bot import echo_bot, serving
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_echo_demo_returns_a_tone_at_its_pitch_and_level(runtime_dir: Path) -> None:
    async with ServeProcess(runtime_dir) as serve:
        await serve.settled()
        async with FakeCaller(serve.url, tone_source(440, db=-12)) as caller:
            await caller.hears(440, db=-12, within_db=1.0, seconds=1.0)


@pytest.mark.parametrize("media", ["shm", "zmq"])
@pytest.mark.parametrize("hz", [8_000, 16_000, 24_000, 48_000])
async def test_a_tone_survives_every_rate_and_both_kinds_of_media(
    serve: ServeProcess, hz: int, media: str
) -> None:
    bot = echo_bot(mic_hz=hz, speaker_hz=hz, media=media)
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440, db=-12)) as caller,
    ):
        await caller.hears(440, db=-12, within_db=1.0, seconds=1.0)


@pytest.mark.parametrize("media", ["shm", "zmq"])
async def test_silence_comes_back_as_silence(serve: ServeProcess, media: str) -> None:
    async with (
        serving(echo_bot(media=media), serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await caller.hears_silence(1.0)
