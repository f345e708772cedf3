"""A Pipecat SmallWebRTC bot for comparison, in one process, as Pipecat's runner builds one.

Prints its URL, serves until it is terminated; `pipeline_bot` says what it does. Needs
`pipecat-ai[webrtc]`, here or in the Python that BENCH_PIPECAT_PYTHON names. Loopback only.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import aioice.ice  # noqa: E402
from loguru import logger  # noqa: E402
from pipecat.frames import frames  # noqa: E402
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.pipeline.worker import PipelineParams, PipelineWorker  # noqa: E402
from pipecat.processors.frame_processor import FrameProcessor  # noqa: E402
from pipecat.transports.base_transport import TransportParams  # noqa: E402
from pipecat.transports.smallwebrtc.request_handler import (  # noqa: E402
    IceCandidate,
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport  # noqa: E402
from pipecat.workers.runner import WorkerRunner  # noqa: E402

from scripts.benchmarks.pipeline_bot import Kit, serve  # noqa: E402

KIT = Kit(
    frames=frames,
    processor=FrameProcessor,
    pipeline=Pipeline,
    task=PipelineWorker,
    runner=WorkerRunner,
    pipeline_params=PipelineParams,
    transport_params=TransportParams,
    transport=SmallWebRTCTransport,
    handler=SmallWebRTCRequestHandler,
    request=SmallWebRTCRequest,
    patch=SmallWebRTCPatchRequest,
    candidate=IceCandidate,
)

if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    serve(KIT)
