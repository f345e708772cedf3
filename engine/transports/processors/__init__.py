"""Processors: frames travel through a pipeline of them, and a task runs the pipeline.

The names, parameters and semantics are those of Pipecat's classes of the same name.
"""

from engine.transports.processors.clock import BaseClock, SystemClock
from engine.transports.processors.events import BaseObject
from engine.transports.processors.metrics import FrameProcessorMetrics, MetricsData
from engine.transports.processors.observers import BaseObserver, FrameProcessed, FramePushed
from engine.transports.processors.params import (
    PipelineParams,
    PipelineTaskParams,
    ProcessorUnusablePolicy,
)
from engine.transports.processors.pipeline import (
    BasePipeline,
    Pipeline,
    PipelineSink,
    PipelineSource,
)
from engine.transports.processors.processor import FrameProcessor
from engine.transports.processors.runner import PipelineRunner
from engine.transports.processors.setup import (
    FrameCallback,
    FrameDirection,
    FrameProcessorSetup,
)
from engine.transports.processors.task import PipelineTask
from engine.transports.processors.task_manager import (
    BaseTaskManager,
    TaskManager,
    TaskManagerParams,
)

# Their newer names.
PipelineWorker = PipelineTask
WorkerRunner = PipelineRunner

__all__ = [
    "BaseClock",
    "BaseObject",
    "BaseObserver",
    "BasePipeline",
    "BaseTaskManager",
    "FrameCallback",
    "FrameDirection",
    "FrameProcessed",
    "FrameProcessor",
    "FrameProcessorMetrics",
    "FrameProcessorSetup",
    "FramePushed",
    "MetricsData",
    "Pipeline",
    "PipelineParams",
    "PipelineRunner",
    "PipelineSink",
    "PipelineSource",
    "PipelineTask",
    "PipelineTaskParams",
    "PipelineWorker",
    "ProcessorUnusablePolicy",
    "SystemClock",
    "TaskManager",
    "TaskManagerParams",
    "WorkerRunner",
]
