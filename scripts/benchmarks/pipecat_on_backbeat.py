"""The same Pipecat bot as `pipecat_bot.py`, on our transport: one import is another.

The engine is the one that the transport starts for itself, with the settings of the environment.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from loguru import logger  # noqa: E402

from engine.integrations.pipecat import (  # noqa: E402
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
    SmallWebRTCTransport,
)
from scripts.benchmarks.pipecat_bot import KIT  # noqa: E402
from scripts.benchmarks.pipeline_bot import serve  # noqa: E402

if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    serve(
        replace(
            KIT,
            transport=SmallWebRTCTransport,
            handler=SmallWebRTCRequestHandler,
            request=SmallWebRTCRequest,
        )
    )
