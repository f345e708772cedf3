"""What a pipeline hands to each of its processors before the first frame."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ipc.frames import Frame

if TYPE_CHECKING:
    from engine.transports.processors.clock import BaseClock
    from engine.transports.processors.observers import BaseObserver
    from engine.transports.processors.processor import FrameProcessor
    from engine.transports.processors.task import PipelineTask
    from engine.transports.processors.task_manager import BaseTaskManager


class FrameDirection(Enum):
    """Which way a frame travels: from the input to the output, or back."""

    DOWNSTREAM = 1
    UPSTREAM = 2


FrameCallback = Callable[["FrameProcessor", Frame, FrameDirection], Awaitable[None]]


@dataclass
class FrameProcessorSetup:
    """The surroundings of a processor. Sample rates in Hz.

    `pipeline_worker` is the task that runs the pipeline, None where a processor runs alone.
    """

    clock: BaseClock
    task_manager: BaseTaskManager
    pipeline_worker: PipelineTask | None = None
    audio_in_sample_rate: int = 16_000
    audio_out_sample_rate: int = 24_000
    enable_metrics: bool = False
    enable_tracing: bool = False
    enable_usage_metrics: bool = False
    observer: BaseObserver | None = None
    report_only_initial_ttfb: bool = False
    tracing_context: Any | None = None
    tool_resources: Any = None
