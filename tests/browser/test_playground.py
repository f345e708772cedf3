"""A real Chromium calls a real engine from the playground, and hears its own words again."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from tests.fakes.browser import (
    browser_page,
    chromium,
    decode,
    inside,
    level,
    likeness,
    loopback_namespace,
    page_until,
    spoken,
)
from tests.fakes.serve import ServeProcess
from tests.fakes.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Page

pytestmark = pytest.mark.xdist_group("browser")

HEALTH = "fetch('/health/ready').then(r => r.json())"
STATE = "window.backbeat.state"
PACKETS = """async () => {
  const all = [...(await window.backbeat.pc.getStats()).values()];
  const audio = type => all.find(r => r.type === type && r.kind === 'audio') ?? {};
  return [audio('outbound-rtp').packetsSent ?? 0, audio('inbound-rtp').packetsReceived ?? 0];
}"""
REPORTS = """async () => {
  const all = [...(await window.backbeat.pc.getStats()).values()];
  const audio = type => all.find(r => r.type === type && r.kind === 'audio') ?? {};
  return {
    roundTripTime: audio('remote-inbound-rtp').roundTripTime ?? -1,
    senderReports: audio('remote-outbound-rtp').reportsSent ?? 0,
    bytesAPacket: audio('outbound-rtp').bytesSent / audio('outbound-rtp').packetsSent,
    opusBytes: audio('outbound-rtp').targetBitrate / 8 / 50,
    received: audio('inbound-rtp').totalSamplesReceived ?? 0,
  };
}"""
# Whatever state it leaves; it may be in one for a moment only.
WATCH = """() => {
  window.watched = [];
  const watcher = new MutationObserver(all => watched.push(...all.map(each => each.oldValue)));
  watcher.observe(document.body, {attributeFilter: ['data-state'], attributeOldValue: true});
}"""
RECORD = """async seconds => {
  const stream = new MediaStream([window.backbeat.remoteTrack]);
  const recorder = new MediaRecorder(stream, {mimeType: 'audio/webm;codecs=opus'});
  const pieces = [];
  recorder.ondataavailable = ({data}) => pieces.push(data);
  const stopped = new Promise(resolve => { recorder.onstop = resolve; });
  recorder.start();
  setTimeout(() => recorder.stop(), seconds * 1000);
  await stopped;
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}"""


@pytest.fixture
def namespace() -> Iterator[str]:
    chromium()
    with loopback_namespace() as name:
        yield name


async def open_playground(page: Page, serve: ServeProcess, *, ready: bool = True) -> None:
    await page.goto(f"{serve.url}/?voice=raw")
    if ready:
        await page_until(page, f"{HEALTH}.then(h => h.status === 'ready')", 30)
    await page_until(page, "document.querySelector('#device').value.startsWith('mic:')")


async def connect(page: Page) -> None:
    await page.click("#connect")
    await page_until(page, f"{STATE} === 'live'")


async def moves(page: Page, meter: str) -> None:
    async def loud() -> bool:
        return await level(page, meter) > -40

    await eventually(loud, f"the {meter} meter moves")


async def rests(page: Page, meter: str) -> None:
    async def quiet() -> bool:
        return await level(page, meter) <= -55

    await eventually(quiet, f"the {meter} meter rests")


async def packets(page: Page) -> tuple[int, int]:
    sent, received = await page.evaluate(PACKETS)
    return int(sent), int(received)


async def test_chromium_knows_the_round_trip_and_sends_redundancy(
    runtime_dir: Path, namespace: str, tmp_path: Path
) -> None:
    wav, _ = spoken(tmp_path)
    async with (
        ServeProcess(runtime_dir, prefix=inside(namespace)) as serve,
        browser_page(namespace, wav, tmp_path) as page,
    ):
        await open_playground(page, serve)
        await connect(page)
        # One that was on its way while the machine stood still may be longer.
        await page_until(
            page, f"({REPORTS})().then(r => r.roundTripTime >= 0 && r.roundTripTime < 1)"
        )
        await page_until(page, f"({REPORTS})().then(r => r.senderReports >= 2)")
        await page_until(page, f"({REPORTS})().then(r => r.received > 96000)")
        reports = await page.evaluate(REPORTS)
    # Chromium names the codec within; but each packet carries the one before it once more.
    assert reports["bytesAPacket"] > 1.5 * reports["opusBytes"]


async def test_the_page_calls_with_the_servers_that_the_engine_was_given(
    runtime_dir: Path, namespace: str, tmp_path: Path
) -> None:
    wav, _ = spoken(tmp_path)
    servers = (
        '["stun:127.0.0.1:9", '
        '{"urls": "turn:127.0.0.1:9", "username": "ada", "credential": "swordfish"}]'
    )
    async with (
        ServeProcess(runtime_dir, "--ice-server", servers, prefix=inside(namespace)) as serve,
        browser_page(namespace, wav, tmp_path) as page,
    ):
        await open_playground(page, serve)
        await connect(page)
        given = await page.evaluate("window.backbeat.pc.getConfiguration().iceServers")
        assert [server["urls"] for server in given] == [["stun:127.0.0.1:9"], ["turn:127.0.0.1:9"]]
        assert given[1]["credential"] == "swordfish"


async def test_a_spoken_call_from_the_page_comes_back_word_for_word(
    runtime_dir: Path, namespace: str, tmp_path: Path
) -> None:
    wav, said = spoken(tmp_path)
    async with (
        ServeProcess(runtime_dir, prefix=inside(namespace)) as serve,
        browser_page(namespace, wav, tmp_path) as page,
    ):
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await open_playground(page, serve)
        await connect(page)
        await moves(page, "mic")
        await moves(page, "bot")

        before = await packets(page)

        async def more() -> bool:
            now = await packets(page)
            return now[0] > before[0] + 50 and now[1] > before[1] + 50

        await eventually(more, "packets flow both ways")

        async def word_for_word() -> bool:
            recording = await page.evaluate(RECORD, len(said) / 48_000 + 1.5)
            heard = decode(base64.b64decode(recording), tmp_path / "heard.webm")[24_000:]
            alike, backwards = likeness(heard, said), likeness(heard, said[::-1])
            print(f"alike {alike:.2f}, backwards {backwards:.2f}")
            # Any speech looks a little like any other: the same words backwards are the yardstick.
            return alike > 0.75 and alike > backwards + 0.1

        # A recording during which the machine stood still has a hole in it.
        await eventually(word_for_word, "the words come back", 90)

        await page.fill("#message", "hello from the page")
        await page.click("#send")
        await page_until(
            page,
            "document.querySelector('#log').textContent.includes('echo: hello from the page')",
        )
        await page.screenshot(path=tmp_path / "playground.png", full_page=True)
        assert (tmp_path / "playground.png").stat().st_size > 10_000

        await page.click("#mute")
        assert await page.get_attribute("#mute", "aria-pressed") == "true"
        await rests(page, "mic")
        await rests(page, "bot")
        await page.click("#mute")
        await moves(page, "bot")

        await page.click("#connect")
        await page_until(page, f"{STATE} === 'ended'")
        await page_until(page, f"{HEALTH}.then(h => h.sessions === 0)")
        assert not await page.locator("#error").is_visible()
        assert problems == []


async def test_a_second_call_from_the_same_page_works(
    runtime_dir: Path, namespace: str, tmp_path: Path
) -> None:
    wav, _ = spoken(tmp_path)
    async with (
        ServeProcess(runtime_dir, prefix=inside(namespace)) as serve,
        browser_page(namespace, wav, tmp_path) as page,
    ):
        await open_playground(page, serve)
        for _ in range(2):
            await connect(page)
            await moves(page, "bot")
            await page.click("#connect")
            await page_until(page, f"{STATE} === 'ended'")


async def test_the_page_says_in_words_that_no_bot_is_there(
    runtime_dir: Path, namespace: str, tmp_path: Path
) -> None:
    wav, _ = spoken(tmp_path)
    async with (
        ServeProcess(runtime_dir, "--bots", "0", prefix=inside(namespace)) as serve,
        browser_page(namespace, wav, tmp_path) as page,
    ):
        await open_playground(page, serve, ready=False)
        await page.click("#connect")
        await page_until(page, f"{STATE} === 'ended'")
        assert await page.locator("#error").is_visible()
        assert "No bot is free" in await page.inner_text("#error")
        assert await page.inner_text("#connect") == "Connect"


async def test_the_page_comes_back_by_itself_after_its_worker_died(
    runtime_dir: Path, namespace: str, tmp_path: Path
) -> None:
    wav, _ = spoken(tmp_path)
    async with (
        ServeProcess(runtime_dir, prefix=inside(namespace)) as serve,
        browser_page(namespace, wav, tmp_path) as page,
    ):
        await open_playground(page, serve)
        await connect(page)
        await moves(page, "bot")
        first = await page.evaluate(f"{HEALTH}.then(h => h.workers)")
        (busy,) = [worker for worker in first if worker["sessions"]]
        (process,) = [child for child in serve.children() if child.pid == busy["pid"]]
        await page.evaluate(WATCH)
        process.kill()
        await page_until(page, f"{STATE} === 'live' && watched.includes('reconnecting')", 60)
        await moves(page, "bot")
        workers = await page.evaluate(f"{HEALTH}.then(h => h.workers)")
        assert busy["name"] not in [worker["name"] for worker in workers]
