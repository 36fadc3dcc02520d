"""Where log lines go: JSON, one a line, on standard error (the line a call has goes to standard output).

Our own modules and the libraries' end in the same form. What is logged are names and numbers; secrets are SecretStr,
bodies are never handed to a logger.
"""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.core import LogData
from pythonjsonlogger.msgspec import MsgspecFormatter

_QUIET = ("httpx", "asyncio", "uvicorn", "alembic", "aiohttp")
_NAMES = {"message": "event", "levelname": "level", "name": "logger", "exc_info": "exception"}


def set_up_logs(level: str) -> None:
    """Give every logger the one form. ``level``: debug, info, warning, error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line([*_NAMES][:3], rename_fields=_NAMES, timestamp=True, json_default=str))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Line(MsgspecFormatter):
    def process_log_record(self, log_data: LogData) -> LogData:
        return log_data | {"level": log_data["level"].lower()}
