"""Whether the Pipecat that is installed is one that this integration knows.

The sender of an output transport is extended below its public surface, so a Pipecat of another
minor version, or one that lacks what is used, is refused by name and not met by surprise.
"""

from __future__ import annotations

import importlib.metadata

from ipc.errors import ConfigError

VERSION = "1.14"
# What `sender` uses of Pipecat's sender.
USED = (
    "_audio_task_handler",
    "_bot_stopped_speaking",
    "_enqueue_flushed_audio_buffer",
    "_filter_audio",
    "_internal_write_audio_frame",
    "_next_frame",
    "_set_video_image",
    "_set_video_images",
    "cleanup",
    "handle_audio_frame",
    "handle_interruptions",
    "handle_sync_frame",
    "handle_tts_stopped",
)


def check() -> None:
    """Raise ConfigError(`pipecat`) for a Pipecat that is missing or unknown."""
    try:
        version = importlib.metadata.version("pipecat-ai")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            "Pipecat is not installed: pip install 'pipecat-ai~=1.14.0'", code="pipecat"
        ) from None
    if not version.startswith(f"{VERSION}."):
        raise ConfigError(
            f"this engine knows Pipecat {VERSION}, and {version} is installed", code="pipecat"
        )
    from pipecat.transports.base_output import BaseOutputTransport

    missing = [name for name in USED if not hasattr(BaseOutputTransport.MediaSender, name)]
    if missing:
        raise ConfigError(f"Pipecat {version} has no {', '.join(missing)}", code="pipecat")
