"""Entry point of a worker process; the engine starts it by this file's path.

Finds its sibling packages beside itself, whatever the current directory or PYTHONPATH hold,
and ends with the engine: the inherited socket is closed when the engine's process ends.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for package in ("ipc", "workers"):
    importlib.import_module(package)
sys.path.remove(str(ROOT))

import argparse  # noqa: E402
import asyncio  # noqa: E402
import contextlib  # noqa: E402
import logging  # noqa: E402
import signal  # noqa: E402

from ipc.errors import BackbeatError  # noqa: E402
from ipc.life import end_with_parent  # noqa: E402
from ipc.loop import new_runner  # noqa: E402
from workers.worker import Worker  # noqa: E402

GRACE_S = 0.7


def main() -> int:
    """Run the worker until the engine ends it or is gone."""
    parser = argparse.ArgumentParser(description="A Backbeat media worker; the engine starts it.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--engine", required=True, help="endpoint of the engine's workers socket")
    parser.add_argument("--life", required=True, type=int, help="descriptor that ends with it")
    parser.add_argument("--listener", type=int, help="socket on which callers come")
    arguments = parser.parse_args()
    logging.basicConfig(
        format=f"%(asctime)s worker {arguments.name} %(levelname)s %(name)s: %(message)s"
    )
    # aioice tells each check at INFO; nobody reads a media log at that rate.
    logging.getLogger("aioice").setLevel(logging.WARNING)
    token = sys.stdin.readline().strip()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(arguments.name, arguments.engine, token, listener=arguments.listener)
    try:
        with new_runner() as runner:
            runner.run(_serve(worker, arguments.life))
    except BackbeatError as error:
        logging.getLogger("workers").error("%s: %s", error.code, error.message)
        return 1
    return 0


async def _serve(worker: Worker, life: int) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.stop)

    def engine_gone() -> None:
        # A closed loop means that the process is ending already.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(worker.stop)

    end_with_parent(life, engine_gone, GRACE_S)
    await worker.run()


if __name__ == "__main__":
    raise SystemExit(main())
