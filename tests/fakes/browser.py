"""Chromium in a network namespace that has loopback, or a link to one other, and nothing else."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import wave
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from playwright.async_api import async_playwright

from tests.fakes.audio import FRAME, HZ, Samples, read_wav, write_wav
from tests.fakes.wait import eventually
from tests.support import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--allow-loopback-in-peer-connection",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--autoplay-policy=no-user-gesture-required",
)
SENTENCE = (
    "One two three. The quick brown fox jumps over the lazy dog, "
    "and then it sleeps. Are you still there?"
)
HELLO = Path(__file__).resolve().parent.parent.parent / "engine" / "examples" / "hello.wav"
PAUSE_S = 0.8
# In envelope frames of 20 ms.
PIECE = 75
NEAR = 25


def unable(reason: str) -> None:
    """Skip, or fail where a browser is demanded."""
    if os.environ.get("BB_REQUIRE_BROWSER") == "1":
        pytest.fail(f"the browser tests cannot run: {reason}")
    pytest.skip(f"BROWSER TESTS NOT RUN: {reason}")


def chromium() -> str:
    """The browser's path, from BB_CHROMIUM or the system."""
    for name in (os.environ.get("BB_CHROMIUM"), "chromium", "chromium-browser"):
        if name and (found := shutil.which(name)):
            return found
    unable("there is no Chromium")
    raise AssertionError


@contextmanager
def loopback_namespace() -> Iterator[str]:
    """The name of a new network namespace; it is removed afterwards."""
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ip is None:
        unable("there is no ip (iproute2)")
    assert ip is not None
    name = f"bb-{secrets.token_hex(4)}"
    made = subprocess.run([ip, "netns", "add", name], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        unable(f"no network namespace can be made: {made.stderr.strip()}")
    try:
        subprocess.run([ip, "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run([ip, "netns", "delete", name], check=True)


def inside(namespace: str) -> list[str]:
    """What to put before a command that shall run in the namespace."""
    return ["ip", "netns", "exec", namespace]


@asynccontextmanager
async def browser_page(
    namespace: str, microphone: Path, scratch: Path, *, origin: str = ""
) -> AsyncIterator[Page]:
    """A page of a browser that lives in the namespace and hears that WAV file, again and again.

    `origin` is a server (http://ADDRESS:PORT) outside of loopback that it may reach and trust.
    """
    known = f", EXCLUDE {urlsplit(origin).hostname}" if origin else ""
    flags = [
        *FLAGS,
        f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1{known}",
        f"--use-file-for-fake-audio-capture={microphone}",
        *([f"--unsafely-treat-insecure-origin-as-secure={origin}"] if origin else []),
    ]
    wrapper = scratch / "chromium-inside"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(inside(namespace))} {chromium()} "$@"\n')
    wrapper.chmod(0o755)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(wrapper),
            args=flags,
        )
        try:
            context = await browser.new_context(permissions=["microphone"])
            yield await context.new_page()
        finally:
            await browser.close()


def spoken(folder: Path) -> tuple[Path, Samples]:
    """A spoken sentence and a pause as a WAV file for the browser, and its samples."""
    raw = folder / "spoken-raw.wav"
    if espeak := shutil.which("espeak-ng"):
        subprocess.run([espeak, "-v", "en-us", "-s", "150", "-w", str(raw), SENTENCE], check=True)
    else:
        shutil.copy(HELLO, raw)
    with wave.open(str(raw), "rb") as file:
        assert file.getsampwidth() == 2
    samples = np.concatenate((read_wav(raw), np.zeros(round(PAUSE_S * HZ), np.int16)))
    samples = samples[: len(samples) // FRAME * FRAME]
    path = folder / "spoken.wav"
    write_wav(path, samples)
    return path, samples


def decode(data: bytes, file: Path) -> Samples:
    """A recording of the browser as mono samples at 48 kHz."""
    file.write_bytes(data)
    resampler = av.AudioResampler("s16", "mono", HZ)
    pieces: list[Samples] = []
    with av.open(str(file)) as container:
        for frame in container.decode(audio=0):
            resampled = resampler.resample(frame)
            pieces += [piece.to_ndarray().reshape(-1).astype(np.int16) for piece in resampled]
    return np.concatenate(pieces)


def envelope(samples: Samples) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Loudness of each 20 ms, smoothed over 60 ms."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    return np.convolve(np.sqrt(np.mean(frames**2, axis=1)), np.ones(3) / 3, mode="same")


def likeness(heard: Samples, said: Samples) -> float:
    """How well the envelopes agree, 1.5 s by 1.5 s and in order; `said` was looped.

    0 for a recording that is shorter than what was said.

    The browser stretches and squeezes time by some 20 ms here and there, so each piece is looked
    for within half a second of where the one before it says that it belongs.
    """
    loop, recording = envelope(said), envelope(heard)
    pieces = [recording[at : at + PIECE] for at in range(0, len(recording) - PIECE, PIECE)]
    if len(pieces) * PIECE < len(loop) - PIECE:
        return 0.0

    def agreement(number: int, offset: int) -> float:
        wanted = np.roll(loop, -(number * PIECE + offset))[:PIECE]
        piece = pieces[number]
        if piece.std() == 0 or wanted.std() == 0:
            return 0.0
        return float(np.corrcoef(piece, wanted)[0, 1])

    def follow(offset: int) -> float:
        found = []
        for number in range(len(pieces)):
            near = range(offset - NEAR, offset + NEAR + 1)
            best, offset = max((agreement(number, at), at) for at in near)
            found.append(best)
        return float(np.mean(found))

    return max(follow(offset) for offset in range(0, len(loop), NEAR))


async def level(page: Page, meter: str) -> float:
    """What a meter shows, in dBFS."""
    return float(await page.locator(f"#{meter}-level").get_attribute("aria-valuenow") or -60)


async def page_until(page: Page, expression: str, timeout_s: float = DEADLINE_S) -> None:
    """Poll an expression in the page (its policy forbids playwright's own waiting)."""

    async def true() -> bool:
        return bool(await page.evaluate(expression))

    await eventually(true, expression, timeout_s)
