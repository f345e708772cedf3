"""The names that others import. One that goes is a break; a new one is added here on purpose."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from tests.support import ROOT

SDK = [
    *("AudioFrame", "Bot", "Candidate", "Codec", "Flushed", "IceServer", "Mark", "Placed"),
    *("Played", "Reconnect", "Rtvi", "Session", "SoundFile", "WebsocketSession"),
]
IPC = {
    "audio_ring": "",  # its names are those of the two ends and of the layout
    "bell": "Bell BellRope BellRopes new_name path_of",
    "bot_ring": "BotRing",
    "channel": "Channel",
    "clock": "Clock ManualClock MonotonicClock",
    "codec": "Codec",
    "errors": "AlreadyAttached AuthError BackbeatError BotError BotGone BotRejected ConfigError "
    "DialFailed DtlsFailed IceFailed LayoutMismatch LimitError MalformedMessage MessageTooLarge "
    "NegotiationError NoBot NoWorker Overloaded ProtocolError QuotaExceeded RateLimited "
    "RingClosed RingError SdpRejected SessionClosed SessionNotFound StaleEpoch StateError "
    "UnknownMessage UnsupportedCodec VersionMismatch WorkerDied WorkerError WorkerStalled "
    "from_wire",
    "fence": "fence lock_fence no_fence",
    "frames": "AudioRawFrame CancelFrame ControlFrame DataFrame EndFrame Frame "
    "ImageRawFrame InputAudioRawFrame InputImageRawFrame InputTransportMessageFrame "
    "OutputAudioRawFrame OutputImageRawFrame OutputTransportMessageFrame "
    "OutputTransportMessageUrgentFrame SpriteFrame StartFrame SystemFrame UserImageRawFrame "
    "UserImageRequestFrame",
    "ice_server": "IceServer",
    "life": "end_with_parent started",
    "loop": "new_runner",
    "media_stream": "Kind MessageEnd Send StreamFrame StreamHost StreamLink pack unpack",
    "message_stream": "MessageStream Outbound",
    "messages": "Answer AppMessage Beat Candidate Candidates CloseSession Configure Connected "
    "Dial Dialled Disconnected DropRing Failure GetStats Goodbye Hello LegState MediaMoved Message "
    "Offer OfferSession Ok OpenMedia OpenRing OpenWebrtc OpenWebsocket Placed RawMessage "
    "Renegotiate RingAttached RingOpened SendMessage SendRaw SessionClosed Stats TrackStatus "
    "Welcome WorkerBeat WorkerHello WorkerSettings",
    "ring_handover": "hear_on unsent",
    "ring_layout": "AudioRing Capture Flushed MicRead Playback RingSpec Samples plan size_bytes "
    "write_header",
    "runtime_dir": "RuntimeDir current_endpoint default_path fresh_path",
    "samples": "AudioFrame",
    "serializers": "FrameSerializer ProtobufFrameSerializer RawPcmFrameSerializer",
    "segment": "Segment names_of new_name unlink_name",
    "stats": "CandidatePair DataChannel IceCandidate InboundRtp LocalCandidate Media OutboundRtp "
    "Record RemoteCandidate RemoteInboundRtp Websocket WorkerPort as_report",
    "sound_file": "SoundFile",
    "sockets": "SocketReader check_endpoint open_socket",
    "websocket": "Reconnect Websocket",
    "worker_ring": "WorkerRing",
    "wire": "Envelope Unreadable check_data decode encode",
}
# What a bot's process must not load to say hello (design: no av, cv2, aiortc at import).
HEAVY = {"aioice", "aiortc", "av", "cv2", "fastapi", "uvicorn", "workers"}


def documented(module_name: str) -> set[str]:
    module = importlib.import_module(module_name)
    # What is loaded by name is not there before it was asked for.
    names = {*vars(module), *getattr(module, "__all__", ())}
    found = {name: getattr(module, name) for name in names}
    return {
        name
        for name, value in found.items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and (value.__module__ + ".").startswith(module_name + ".")
        and inspect.getdoc(value)
    }


@pytest.mark.parametrize("module", IPC)
def test_promised_names_of_ipc_are_there_and_documented(module: str) -> None:
    missing = set(IPC[module].split()) - documented(f"ipc.{module}")

    assert not missing


def test_no_module_of_ipc_is_left_out_of_this_list() -> None:
    files = [*(ROOT / "ipc").glob("*.py"), *(ROOT / "ipc").glob("*/__init__.py")]
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in files}
    modules.discard("ipc")

    assert modules == set(IPC), "list its names here"


def test_the_sdk_offers_exactly_its_documented_names() -> None:
    sdk = importlib.import_module("engine.sdk")

    assert sorted(sdk.__all__) == SDK
    assert all(inspect.getdoc(getattr(sdk, name)) for name in SDK)


def test_importing_the_sdk_loads_nothing_heavy() -> None:
    code = "import engine.sdk, sys; print(*{name.partition('.')[0] for name in sys.modules})"

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "engine" in run.stdout.split()
    assert not HEAVY & set(run.stdout.split())
