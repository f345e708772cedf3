"""Measurements of services in a pipeline: time to the first byte, processing, usage.

A processor whose `can_generate_metrics` is true calls `start_...` and `stop_...` where its
work begins and ends; what was measured travels downstream in a `MetricsFrame`. Times are
seconds; moments that are passed in are seconds of the wall clock, as `time.time` has them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from pydantic import BaseModel

from engine.transports.processors.events import BaseObject
from ipc.frames import MetricsFrame

# Samples up to this loudness count as silence before the first word.
SILENCE = 20


class MetricsData(BaseModel):
    """A measurement of `processor`, perhaps of one `model`."""

    processor: str
    model: str | None = None


class TTFBMetricsData(MetricsData):
    """Seconds until the first byte of a response."""

    value: float


class TTFAMetricsData(MetricsData):
    """Seconds until the first sound: until the first byte, and the silence behind that."""

    ttfa: float
    ttfb: float
    leading_silence: float


class TTFATMetricsData(MetricsData):
    """Seconds until the first token of the answer: until the first byte, and the thinking."""

    ttfat: float
    ttfb: float
    thinking_time: float


class ProcessingMetricsData(MetricsData):
    """Seconds that a piece of work took."""

    value: float


class TextAggregationMetricsData(MetricsData):
    """Seconds until a sentence was complete."""

    value: float


class LLMUsageMetricsData(MetricsData):
    """Tokens that a model used."""

    value: Any


class STTUsageMetricsData(MetricsData):
    """Audio that a recognizer used."""

    value: Any


class TTSUsageMetricsData(MetricsData):
    """Characters that a synthesizer used."""

    value: int


class FrameProcessorMetrics(BaseObject):
    """Measures for one processor; `stop_...` returns the frame to push, or None."""

    def __init__(self) -> None:
        super().__init__()
        self._core = MetricsData(processor="")
        # When each measurement under way began.
        self._began: dict[str, float] = {}
        self._ttfb: float | None = None
        self._silence_s = 0.0
        self._only_initial_done = False

    def set_core_metrics_data(self, data: MetricsData) -> None:
        """Whose measurements these are."""
        self._core = data

    def set_processor_name(self, name: str) -> None:
        """Whose measurements these are."""
        self._core = MetricsData(processor=name)

    @property
    def ttfb(self) -> float | None:
        """The last time to the first byte, or that under way."""
        began = self._began.get("ttfb")
        return self._ttfb if began is None else time.time() - began

    async def start_ttfb_metrics(
        self, *, start_time: float | None = None, report_only_initial_ttfb: bool = False
    ) -> None:
        """A request leaves."""
        if report_only_initial_ttfb and self._only_initial_done:
            return
        self._only_initial_done = True
        self._begin("ttfb", start_time)
        self._begin("ttfa", start_time)
        self._begin("ttfat", start_time)
        self._ttfb = None
        self._silence_s = 0.0

    async def cancel_ttfb_metrics(self) -> None:
        """No response will come."""
        for what in ("ttfb", "ttfa", "ttfat"):
            self._began.pop(what, None)

    async def stop_ttfb_metrics(self, *, end_time: float | None = None) -> MetricsFrame | None:
        """The first byte has come."""
        took = self._end("ttfb", end_time)
        if took is None:
            return None
        self._ttfb = took
        return self._frame(TTFBMetricsData, value=took)

    async def process_ttfa_metrics(
        self, *, audio: bytes, sample_rate: int, num_channels: int
    ) -> MetricsFrame | None:
        """Audio of the response: the first sound ends the measurement."""
        if self._ttfb is None or "ttfa" not in self._began:
            return None
        loud = np.flatnonzero(np.abs(np.frombuffer(audio, np.int16).astype(np.int32)) > SILENCE)
        if not loud.size:
            self._silence_s += len(audio) / (2 * num_channels * sample_rate)
            return None
        del self._began["ttfa"]
        silence_s = self._silence_s + int(loud[0]) // num_channels / sample_rate
        return self._frame(
            TTFAMetricsData,
            ttfa=self._ttfb + silence_s,
            ttfb=self._ttfb,
            leading_silence=silence_s,
        )

    async def stop_ttfat_metrics(self, *, end_time: float | None = None) -> MetricsFrame | None:
        """The first token of the answer has come."""
        if self._ttfb is None:
            return None
        took = self._end("ttfat", end_time)
        if took is None:
            return None
        return self._frame(
            TTFATMetricsData, ttfat=took, ttfb=self._ttfb, thinking_time=max(0, took - self._ttfb)
        )

    async def start_processing_metrics(self, *, start_time: float | None = None) -> None:
        """Work begins."""
        self._begin("processing", start_time)

    async def stop_processing_metrics(
        self, *, end_time: float | None = None
    ) -> MetricsFrame | None:
        """Work ends."""
        took = self._end("processing", end_time)
        return None if took is None else self._frame(ProcessingMetricsData, value=took)

    async def start_text_aggregation_metrics(self) -> None:
        """The first piece of a sentence has come."""
        self._begin("aggregation", None)

    async def stop_text_aggregation_metrics(self) -> MetricsFrame | None:
        """The sentence is complete."""
        took = self._end("aggregation", None)
        return None if took is None else self._frame(TextAggregationMetricsData, value=took)

    async def start_llm_usage_metrics(self, tokens: Any) -> MetricsFrame | None:
        """Tokens were used."""
        return self._frame(LLMUsageMetricsData, value=tokens)

    async def start_stt_usage_metrics(self, usage: Any) -> MetricsFrame | None:
        """Audio was used."""
        return self._frame(STTUsageMetricsData, value=usage)

    async def start_tts_usage_metrics(self, text: str) -> MetricsFrame | None:
        """Text was used."""
        return self._frame(TTSUsageMetricsData, value=len(text))

    def _begin(self, what: str, at: float | None) -> None:
        self._began[what] = time.time() if at is None else at

    def _end(self, what: str, at: float | None) -> float | None:
        began = self._began.pop(what, None)
        return None if began is None else (time.time() if at is None else at) - began

    def _frame(self, kind: type[MetricsData], **values: Any) -> MetricsFrame:
        core = self._core
        return MetricsFrame(data=[kind(processor=core.processor, model=core.model, **values)])
