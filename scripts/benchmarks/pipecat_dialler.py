"""A Pipecat bot that dials, on Pipecat's own WebsocketClientTransport, in one process.

Prints its URL, serves until it is terminated; `pipeline_dialler` says what it does. Needs
`pipecat-ai[websocket]`, here or in the Python that BENCH_PIPECAT_PYTHON names. Loopback only.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from loguru import logger  # noqa: E402
from pipecat.transports.websocket.client import (  # noqa: E402
    WebsocketClientParams,
    WebsocketClientTransport,
)

from scripts.benchmarks.pipecat_bot import KIT  # noqa: E402
from scripts.benchmarks.pipeline_dialler import serve  # noqa: E402

if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    serve(replace(KIT, transport=WebsocketClientTransport, transport_params=WebsocketClientParams))
