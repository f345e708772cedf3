"""Frames that steer a pipeline: its start and end, errors, interruptions, pauses, readiness.

`EndFrame` and `StopFrame` travel behind everything queued and survive interruptions;
`CancelFrame` overtakes. A processor that wants the whole pipeline to end sends the worker (or
task) frame of that name either way; the pipeline's task turns it into the real one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from ipc.frames.base import ControlFrame, SystemFrame

if TYPE_CHECKING:
    import asyncio

_flushes = itertools.count(1)


class ErrorCategory(Enum):
    """Why something failed, whoever the provider is."""

    UNKNOWN = "unknown"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    INVALID_REQUEST = "invalid_request"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    CONNECTIVITY = "connectivity"
    SERVER = "server"
    APPLICATION = "application"

    @property
    def is_permanent(self) -> bool:
        """Whether the same call fails again until credentials or settings change."""
        return self in (
            ErrorCategory.AUTHENTICATION,
            ErrorCategory.AUTHORIZATION,
            ErrorCategory.INVALID_REQUEST,
        )


@dataclass
class StartFrame(SystemFrame):
    """The pipeline begins: the first frame that a processor handles. Rates in Hz."""

    audio_in_sample_rate: int = 16_000
    audio_out_sample_rate: int = 24_000
    enable_metrics: bool = False
    enable_tracing: bool = False
    enable_usage_metrics: bool = False
    report_only_initial_ttfb: bool = False
    tracing_context: Any | None = None


@dataclass
class EndFrame(ControlFrame):
    """The pipeline ends once everything queued is done."""

    interruptible: bool = field(init=False, default=False)
    reason: Any | None = None


@dataclass
class StopFrame(ControlFrame):
    """The pipeline's task ends once everything queued is done; connections stay open."""

    interruptible: bool = field(init=False, default=False)


@dataclass
class CancelFrame(SystemFrame):
    """The pipeline stops now; what is queued is dropped."""

    reason: Any | None = None


@dataclass
class InterruptionFrame(SystemFrame):
    """The user broke in: whatever waits and is interruptible is dropped."""


@dataclass
class ErrorFrame(SystemFrame):
    """Something failed in `processor`. It travels upstream; `fatal` cancels the pipeline."""

    error: str
    fatal: bool = False
    processor: Any | None = None
    exception: Exception | None = None
    category: ErrorCategory | None = None


@dataclass
class FatalErrorFrame(ErrorFrame):
    """An error that cancels the pipeline."""

    fatal: bool = field(init=False, default=True)


@dataclass
class WorkerFrame(ControlFrame):
    """Base of the requests to the pipeline's task that keep their place in the queue."""


@dataclass
class WorkerSystemFrame(SystemFrame):
    """Base of the requests to the pipeline's task that overtake."""


@dataclass
class EndWorkerFrame(WorkerFrame):
    """Asks the pipeline's task to end the pipeline."""

    interruptible: bool = field(init=False, default=False)
    reason: Any | None = None


@dataclass
class StopWorkerFrame(WorkerFrame):
    """Asks the pipeline's task to stop the pipeline."""

    interruptible: bool = field(init=False, default=False)


@dataclass
class CancelWorkerFrame(WorkerSystemFrame):
    """Asks the pipeline's task to cancel the pipeline."""

    reason: Any | None = None


@dataclass
class InterruptionWorkerFrame(WorkerSystemFrame):
    """Asks the pipeline's task to interrupt the pipeline."""


@dataclass
class TaskFrame(WorkerFrame):
    """Older name of `WorkerFrame`."""


@dataclass
class TaskSystemFrame(WorkerSystemFrame):
    """Older name of `WorkerSystemFrame`."""


@dataclass
class EndTaskFrame(EndWorkerFrame, TaskFrame):
    """Older name of `EndWorkerFrame`."""


@dataclass
class StopTaskFrame(StopWorkerFrame, TaskFrame):
    """Older name of `StopWorkerFrame`."""


@dataclass
class CancelTaskFrame(CancelWorkerFrame, TaskSystemFrame):
    """Older name of `CancelWorkerFrame`."""


@dataclass
class InterruptionTaskFrame(InterruptionWorkerFrame, TaskSystemFrame):
    """Older name of `InterruptionWorkerFrame`."""


@dataclass
class PipelineFlushFrame(ControlFrame):
    """Goes down the pipeline and comes back: everything before it has then been handled."""

    interruptible: bool = field(init=False, default=False)
    event: asyncio.Event | None = None
    returning: bool = False
    origin: str | None = None
    flush_id: int = field(default_factory=lambda: next(_flushes))


@dataclass
class HeartbeatFrame(ControlFrame):
    """Sent at a fixed rate to see that the pipeline moves. `timestamp` in ns of its clock."""

    timestamp: int


@dataclass
class FrameProcessorPauseFrame(ControlFrame):
    """`processor` keeps its queued frames from here on."""

    processor: Any


@dataclass
class FrameProcessorResumeFrame(SystemFrame):
    """`processor` goes on."""

    processor: Any


@dataclass
class FrameProcessorPauseUrgentFrame(SystemFrame):
    """`processor` keeps its queued frames from now on."""

    processor: Any


@dataclass
class FrameProcessorResumeUrgentFrame(SystemFrame):
    """`processor` goes on at once."""

    processor: Any


@dataclass
class OutputTransportReadyFrame(ControlFrame):
    """The output transport takes frames. It travels upstream."""


@dataclass
class InputTransportStartAudioStreamingFrame(ControlFrame):
    """The input transport may begin to stream what it hears."""


@dataclass
class BotConnectedFrame(SystemFrame):
    """The bot has joined its transport."""


@dataclass
class ClientConnectedFrame(SystemFrame):
    """A client has joined the transport."""


@dataclass
class MetricsFrame(SystemFrame):
    """Measurements of processors."""

    data: list[Any]
