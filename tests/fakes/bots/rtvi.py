"""A bare bot for RTVI clients: echoes or sings, and tells its caller what it knows of the call."""

from collections import deque
from typing import Any

import numpy as np

from engine.sdk import Bot, Rtvi, Session

HZ = 48_000
FRAME = HZ // 50
MAX_QUEUED = 2 * FRAME
bot = Bot("rtvi")


@bot.session
async def serve(session: Session) -> None:
    rtvi = Rtvi(session, about={"library": "backbeat's tests"})
    heard: deque[np.ndarray[Any, np.dtype[np.int16]]] = deque(maxlen=25)
    tracks: dict[str, bool] = {}
    told: dict[str, Any] = {"connected": [], "disconnected": [], "sing": 0}

    session.on("connected", lambda resumed: told["connected"].append(resumed))
    session.on("disconnected", lambda reason: told["disconnected"].append(reason))

    @session.on("track")
    def track(index: int, enabled: bool) -> None:
        tracks[str(index)] = enabled

    @rtvi.message("echo")
    def echo(data: Any) -> Any:
        return data

    @rtvi.message("who")
    def who(_: Any) -> Any:
        known = {"session": session.id, "request_data": session.request_data, "tracks": tracks}
        return known | told | {"client": rtvi.version}

    @rtvi.message("heard")
    def what_was_heard(_: Any) -> Any:
        if not heard:
            return {"hz": 0.0, "peak": -1.0}
        samples = np.concatenate(heard)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        peak = float(np.abs(samples).max())
        return {"hz": float(spectrum.argmax()) * HZ / len(samples), "peak": peak}

    @rtvi.message("sing")
    def sing(hertz: float) -> None:
        told["sing"] = hertz

    @rtvi.message("renegotiate")
    def renegotiate(_: Any) -> None:
        session.send({"type": "signalling", "message": {"type": "renegotiate"}})

    @rtvi.on("send-text")
    def text(data: Any) -> None:
        rtvi.send(data["content"])

    @rtvi.message("leave")
    async def leave(_: Any) -> None:
        await session.close()

    sung = 0
    async for frame in session.audio():
        heard.append(np.array(frame.samples))
        if session.queued > MAX_QUEUED:
            continue
        if hertz := told["sing"]:
            at = np.arange(sung, sung + frame.count)
            sung += frame.count
            tone = 8000 * np.sin(2 * np.pi * hertz * at / HZ)
            await session.play(tone.astype(np.int16))
        else:
            await session.play(frame)
