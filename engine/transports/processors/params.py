"""What a pipeline is started with."""

from __future__ import annotations

import asyncio  # noqa: TC003  # pydantic and users read annotations at run time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.transports.processors.task_manager import BaseTaskManager  # noqa: TC001  # same


class PipelineParams(BaseModel):
    """Parameters of a pipeline. Rates in Hz, periods in seconds."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    audio_in_sample_rate: int = 16_000
    audio_out_sample_rate: int = 24_000
    enable_heartbeats: bool = False
    enable_metrics: bool = False
    enable_usage_metrics: bool = False
    heartbeats_period_secs: float = 1.0
    heartbeats_monitor_secs: float = 10.0
    report_only_initial_ttfb: bool = False
    send_initial_empty_metrics: bool = True
    start_metadata: dict[str, Any] = Field(default_factory=dict)


class ProcessorUnusablePolicy(Enum):
    """What becomes of a pipeline when a processor can no longer do its job."""

    CONTINUE = "continue"
    END = "end"
    CANCEL = "cancel"


@dataclass
class PipelineTaskParams:
    """Where a task runs: on the running loop, whatever `loop` says.

    `task_manager` is for tasks that were given none; without it each has its own.
    """

    loop: asyncio.AbstractEventLoop | None = None
    task_manager: BaseTaskManager | None = None
