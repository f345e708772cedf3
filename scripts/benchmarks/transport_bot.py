"""A bot on our documented transport, in a FastAPI application of its own: no `serve`, no SDK.

Prints its URL, serves until it is terminated; `pipeline_bot` says what it does. The engine is
the one that the transport starts for itself, with the settings of the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from engine.transports import frames  # noqa: E402
from engine.transports.base import TransportParams  # noqa: E402
from engine.transports.processors import (  # noqa: E402
    FrameProcessor,
    Pipeline,
    PipelineParams,
    PipelineRunner,
    PipelineTask,
)
from engine.transports.smallwebrtc.request_handler import (  # noqa: E402
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from engine.transports.smallwebrtc.transport import SmallWebRTCTransport  # noqa: E402
from scripts.benchmarks.pipeline_bot import Kit, serve  # noqa: E402

KIT = Kit(
    frames=frames,
    processor=FrameProcessor,
    pipeline=Pipeline,
    task=PipelineTask,
    runner=PipelineRunner,
    pipeline_params=PipelineParams,
    transport_params=TransportParams,
    transport=SmallWebRTCTransport,
    handler=SmallWebRTCRequestHandler,
    request=SmallWebRTCRequest,
)

if __name__ == "__main__":
    serve(KIT)
