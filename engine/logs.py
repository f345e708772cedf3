"""The engine's log: structlog over stdlib logging, one event a line on stderr."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str) -> None:
    """Log at `level` from here on; foreign libraries only when something is wrong."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s engine %(levelname)s %(name)s: %(message)s",
    )
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    through_logging()


def through_logging() -> None:
    """Events go through stdlib logging, to wherever that is configured to send them."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.stdlib.render_to_log_kwargs,
            _as_line,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _as_line(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    fields = event.pop("extra", {})
    pairs = "".join(f" {key}={value}" for key, value in fields.items())
    event["msg"] = f"{event['msg']}{pairs}"
    return event
