"""`Metered`: what a processor calls to have its work measured.

Nothing happens unless the processor can generate metrics and the pipeline wants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.processors.metrics import FrameProcessorMetrics
from engine.transports.processors.node import Node

if TYPE_CHECKING:
    from engine.transports.processors.metrics import MetricsData
    from ipc.frames import MetricsFrame, TTSAudioRawFrame


class Metered(Node):
    """Base of `FrameProcessor`. `metrics` replaces the one who measures."""

    def __init__(
        self,
        *,
        name: str | None = None,
        metrics: FrameProcessorMetrics | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self._metrics = metrics or FrameProcessorMetrics()
        self._metrics.set_processor_name(self.name)

    def can_generate_metrics(self) -> bool:
        """Whether it measures itself; services override this."""
        return False

    @property
    def metrics_enabled(self) -> bool:
        """Whether the pipeline wants times measured."""
        return self._setup is not None and self._setup.enable_metrics

    @property
    def usage_metrics_enabled(self) -> bool:
        """Whether the pipeline wants usage measured."""
        return self._setup is not None and self._setup.enable_usage_metrics

    @property
    def report_only_initial_ttfb(self) -> bool:
        """Whether only the first time to the first byte is wanted."""
        return self._setup is not None and self._setup.report_only_initial_ttfb

    def set_core_metrics_data(self, data: MetricsData) -> None:
        """Whose measurements these are, such as which model's."""
        self._metrics.set_core_metrics_data(data)

    async def start_ttfb_metrics(self, *, start_time: float | None = None) -> None:
        """A request leaves; `start_time` in wall-clock seconds, else now."""
        if self._times():
            await self._metrics.start_ttfb_metrics(
                start_time=start_time, report_only_initial_ttfb=self.report_only_initial_ttfb
            )

    async def cancel_ttfb_metrics(self) -> None:
        """No response will come."""
        if self._times():
            await self._metrics.cancel_ttfb_metrics()

    async def stop_ttfb_metrics(self, *, end_time: float | None = None) -> None:
        """The first byte has come."""
        if self._times():
            await self._report(await self._metrics.stop_ttfb_metrics(end_time=end_time))

    async def process_ttfa_metrics(self, frame: TTSAudioRawFrame) -> None:
        """Audio of the response: its first sound is measured."""
        if self._times():
            await self._report(
                await self._metrics.process_ttfa_metrics(
                    audio=frame.audio,
                    sample_rate=frame.sample_rate,
                    num_channels=frame.num_channels,
                )
            )

    async def stop_ttfat_metrics(self, *, end_time: float | None = None) -> None:
        """The first token of the answer has come."""
        if self._times():
            await self._report(await self._metrics.stop_ttfat_metrics(end_time=end_time))

    async def start_processing_metrics(self, *, start_time: float | None = None) -> None:
        """Work begins."""
        if self._times():
            await self._metrics.start_processing_metrics(start_time=start_time)

    async def stop_processing_metrics(self, *, end_time: float | None = None) -> None:
        """Work ends."""
        if self._times():
            await self._report(await self._metrics.stop_processing_metrics(end_time=end_time))

    async def start_text_aggregation_metrics(self) -> None:
        """The first piece of a sentence has come."""
        if self._times():
            await self._metrics.start_text_aggregation_metrics()

    async def stop_text_aggregation_metrics(self) -> None:
        """The sentence is complete."""
        if self._times():
            await self._report(await self._metrics.stop_text_aggregation_metrics())

    async def start_llm_usage_metrics(self, tokens: Any) -> None:
        """A model used `tokens`."""
        if self._uses():
            await self._report(await self._metrics.start_llm_usage_metrics(tokens))

    async def start_stt_usage_metrics(self, usage: Any) -> None:
        """A recognizer used audio."""
        if self._uses():
            await self._report(await self._metrics.start_stt_usage_metrics(usage))

    async def start_tts_usage_metrics(self, text: str) -> None:
        """A synthesizer used `text`."""
        if self._uses():
            await self._report(await self._metrics.start_tts_usage_metrics(text))

    async def stop_all_metrics(self) -> None:
        """Whatever is being measured ends here."""
        await self.stop_ttfb_metrics()
        await self.stop_processing_metrics()
        await self.stop_text_aggregation_metrics()

    def _times(self) -> bool:
        return self.metrics_enabled and self.can_generate_metrics()

    def _uses(self) -> bool:
        return self.usage_metrics_enabled and self.can_generate_metrics()

    async def _report(self, frame: MetricsFrame | None) -> None:
        if frame is not None:
            await self.push_frame(frame)
