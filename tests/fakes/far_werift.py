"""The werift caller (a pure TypeScript WebRTC stack) in another network namespace.

Speaks pre-encoded Opus, with RED of two earlier packets when the server takes it, and gives back
every packet: judged here, on the wire and after RED. Needs node, and `npm ci` in tests/interop.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.benchmarks import speech
from tests.fakes.lossy_call import HZ, Seen, Sound, delay_ms, silences_ms
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.fakes.lossy_call import Spans

INTEROP = ROOT / "tests" / "interop"
RED = 63
RED_DISTANCE = 2
FRAME = 960
CONNECT_DEADLINE_S = 120.0
END_DEADLINE_S = 30.0
MAX_LINE_BYTES = 64 << 20


def obstacle() -> str:
    """Why there can be no such caller here; empty when nothing speaks against it."""
    if shutil.which("node") is None:
        return "there is no node"
    if not (INTEROP / "node_modules" / "werift").is_dir():
        return "werift is not installed (npm ci --ignore-scripts in tests/interop)"
    return ""


class FarWerift:
    """One call. Use as an async context manager; `prefix` puts it into a namespace."""

    def __init__(self, prefix: Sequence[str], scratch: Path) -> None:
        self._prefix = prefix
        self._packets = scratch / "packets.json"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> FarWerift:
        texts = [base64.b64encode(packet).decode() for packet in speech.packets()]
        self._packets.write_text(json.dumps(texts))
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
        if process is not None:
            await process.communicate()

    async def call(self, url: str) -> None:
        """Connect and begin to speak."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._prefix,
            *("node", str(INTEROP / "werift_caller.mjs")),
            *(url, str(self._packets), str(RED_DISTANCE)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        assert process.stdout is not None
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            line = await process.stdout.readline()
        assert line, "the werift caller did not connect; its error is above"

    async def mark(self) -> None:
        """Every packet has its time: there is nothing to count."""

    async def redundant(self, quiet: list[Any]) -> bool:
        """Its reports come each second: nothing more is waited for."""
        return True

    async def end(self, spans: Spans, marks: list[Any]) -> Seen:
        """Hang up and judge."""
        process = self._process
        assert process is not None
        async with asyncio.timeout(END_DEADLINE_S):
            out, _ = await process.communicate(b"end\n")
        return judge(json.loads(out), spans)


def judge(log: dict[str, Any], spans: Spans) -> Seen:
    """Numbers from what the caller has noted."""
    from_ns, to_ns = spans.lossy
    due = spans.lossy_s * 50
    wire = [(number, kind) for number, kind, at in log["wire"] if from_ns <= int(at) < to_ns]
    numbers = _unwrapped([number for number, _ in wire])
    heard = _heard(log["heard"])
    kept = [(number, at) for number, _, at, _ in log["heard"] if from_ns <= int(at) < to_ns]
    kept_numbers = set(_unwrapped([number for number, _ in kept]))
    silent, gaps = silences_ms(heard, *spans.lossy)
    said = _said(log["sent"])
    red_answered = f"a=rtpmap:{RED} red/48000" in log["answer"].lower()
    return Seen(
        returned=(max(numbers) - min(numbers) + 1) / due if numbers else 0.0,
        received=len(set(numbers)) / due,
        made_up=max(0.0, 1 - len(kept_numbers) / due),
        silent=silent,
        gaps=len(gaps),
        longest_gap_ms=max(gaps, default=0.0),
        delay_before_ms=delay_ms(heard, said, *spans.before),
        delay_lossy_ms=delay_ms(heard, said, *spans.lossy),
        delay_after_ms=delay_ms(heard, said, *spans.after) if spans.after[1] else None,
        red_to_client=any(kind == RED for _, kind in wire),
        red_to_server=red_answered,
        server=log["stats"] or {},
        given_up_s=log["missed"] * FRAME / HZ,
    )


def _unwrapped(numbers: list[int]) -> list[int]:
    if not numbers:
        return []
    first = numbers[0]
    return [(number - first + 0x8000) % 0x10000 - 0x8000 for number in numbers]


def _said(sent: list[list[Any]]) -> Sound:
    decoder, packets = speech.Decoder(), speech.packets()
    chunks = np.array([decoder.decode(packets[index]) for index, _ in sent], np.int16)
    return Sound(chunks.reshape(-1, FRAME), np.array([int(at) for _, at in sent], np.int64))


def _heard(packets: list[list[Any]]) -> Sound:
    """Decoded in the order of the sequence numbers; each by the clock when it was there."""
    numbers = _unwrapped([number for number, *_ in packets])
    first: dict[int, tuple[int, bytes]] = {}
    for number, (_, _, at, text) in zip(numbers, packets, strict=True):
        first.setdefault(number, (int(at), base64.b64decode(text)))
    decoder = speech.Decoder()
    ordered = [first[number] for number in sorted(first)]
    chunks = np.array([decoder.decode(payload) for _, payload in ordered], np.int16)
    return Sound(chunks.reshape(-1, FRAME), np.array([at for at, _ in ordered], np.int64))
