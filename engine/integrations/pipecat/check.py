"""Whether the Pipecat that is installed is one that this integration knows.

Pipecat's base classes are extended below their public surface, so a Pipecat of another minor
version, or one that lacks what is used of it, is refused by name and not met by surprise: methods
are looked for in the classes, attributes of their objects in what the methods assign.
"""

from __future__ import annotations

import dis
import importlib
import importlib.metadata
import inspect
from operator import attrgetter
from types import CodeType
from typing import TYPE_CHECKING

from ipc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "1.14"
# What our subclasses use of each class, besides what it has for everybody.
USED: dict[tuple[str, str], tuple[str, ...]] = {
    ("pipecat.transports.base_output", "BaseOutputTransport.MediaSender"): (
        "_audio_chunk_size",
        "_audio_queue",
        "_audio_runs",
        "_audio_task",
        "_audio_task_handler",
        "_bot_stopped_speaking",
        "_clock_queue",
        "_destination",
        "_enqueue_flushed_audio_buffer",
        "_filter",
        "_filter_audio",
        "_internal_write_audio_frame",
        "_mixer",
        "_next_frame",
        "_params",
        "_resampler",
        "_sample_rate",
        "_send_silence",
        "_set_video_image",
        "_set_video_images",
        "_transport",
        "_volume",
        "_volume_gain",
        "cleanup",
        "handle_audio_frame",
        "handle_interruptions",
        "handle_sync_frame",
        "handle_tts_stopped",
    ),
    ("pipecat.transports.base_output", "BaseOutputTransport"): (
        "_cancelling",
        "_media_senders",
        "_params",
        "_supports_native_dtmf",
    ),
    ("pipecat.transports.base_input", "BaseInputTransport"): ("_params",),
    ("pipecat.transports.base_transport", "BaseTransport"): (
        "_call_event_handler",
        "_register_event_handler",
    ),
    # Of the sender's `_audio_queue`.
    ("pipecat.utils.frame_queue", "FrameQueue"): ("_queue",),
}


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
    missing = [what for (module, name), used in USED.items() for what in lacks(module, name, used)]
    if missing:
        raise ConfigError(
            f"Pipecat {version} has no {', '.join(missing)}: this engine knows {VERSION}.0",
            code="pipecat",
        )


def lacks(module: str, name: str, used: tuple[str, ...]) -> list[str]:
    """What neither the class nor its objects have, as `Class.attribute`; or the class itself."""
    try:
        found = attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError):
        return [f"{module}.{name}"]
    rest = [one for one in used if not hasattr(found, one)]
    assigned = set[str]()
    for code in _codes_of(found) if rest else ():
        if not assigned.issuperset(rest) and not set(rest).isdisjoint(code.co_names):
            steps = dis.get_instructions(code)
            assigned.update(step.argval for step in steps if step.opname == "STORE_ATTR")
    return [f"{name}.{one}" for one in rest if one not in assigned]


def _codes_of(found: type) -> Iterator[CodeType]:
    """The methods of a class and of those that it is made of."""
    for base in found.__mro__:
        for member in vars(base).values():
            function = member.fget if isinstance(member, property) else member
            code = getattr(inspect.unwrap(function), "__code__", None) if function else None
            if isinstance(code, CodeType):
                yield code
