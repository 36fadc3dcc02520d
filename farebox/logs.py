"""Where log lines go: JSON, one a line, on standard error (the line a call has goes to standard output).

Our own modules and the libraries' end in the same form. What is logged are names and numbers; secrets are SecretStr,
bodies are never handed to a logger.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec
import structlog

_QUIET = ("httpx", "asyncio", "uvicorn", "alembic", "aiohttp")


def set_up_logs(level: str) -> None:
    """Route the standard library's logging and structlog to the one form. ``level``: debug, info, warning, error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_serialized),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _serialized(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
