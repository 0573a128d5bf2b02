"""One event, one line: structlog, for our own lines and for those of arq and uvicorn."""

import logging
import sys
from typing import Literal

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

Format = Literal["json", "console"]

CHATTY = ("arq.worker", "httpx", "alembic.runtime.plugins")  # our own lines say it better


def configure(format_: Format = "console", level: str = "info") -> None:
    """Send every log line through structlog, once, in `format_`. Safe to call again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        _without_nothing,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _renderer(format_),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    take_over()
    # It writes a traceback for every second that Postgres is away; heartbeats say so in a line.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    if level != "debug":
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def take_over() -> None:
    """Take the lines of arq and uvicorn: with handlers of their own they would print twice."""
    for name in ("arq", "uvicorn", "uvicorn.error", "uvicorn.access"):
        theirs = logging.getLogger(name)
        theirs.handlers.clear()
        theirs.propagate = True


def _without_nothing(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {n: v for n, v in event.items() if v is not None and n != "color_message"}


def _renderer(format_: Format) -> Processor:
    if format_ == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `name` and whatever is bound in the context."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
