"""A Pipecat bot file that waits for its client: what `ready` times the way to.

`serve --bot` runs it on our transport, by the one import that differs from a stock bot's. It lies
apart, for the modules beside a bot file hide others of their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from engine.integrations.pipecat import create_transport

if TYPE_CHECKING:
    from pipecat.runner.types import RunnerArguments

PARAMS = {"webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True)}


async def bot(runner_args: RunnerArguments) -> None:
    """The entry point for runners."""
    transport = await create_transport(runner_args, PARAMS)
    worker = PipelineWorker(Pipeline([transport.input(), transport.output()]))

    async def left(_transport: Any, _client: Any) -> None:
        await worker.cancel()

    transport.add_event_handler("on_client_disconnected", left)

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()
