"""One event, one line: structlog, for our own lines and for those of arq and uvicorn."""

import logging
import sys
from collections.abc import Collection, Sequence
from typing import Any, Literal, cast

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from app import redact

Format = Literal["json", "console"]

# Our own lines say it better.
CHATTY = ("arq.worker", "httpx", "alembic.runtime.plugins", "apprise", "urllib3")
ACCESS = "uvicorn.access"
PROBES = ("/health", "/livez", "/readyz", "/metrics", "/badge/")  # asked all day long
VISIT = 5  # what uvicorn says of a visit: client, method, path, HTTP version, status


def configure(
    format_: Format = "console", level: str = "info", secrets: Collection[str] = ()
) -> None:
    """Send every log line through structlog, once, in `format_`. Safe to call again.

    `secrets`: texts that no line may show, beside whatever looks like a secret.
    """
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
            pass_foreign_args=True,
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _visit, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _without_secrets(secrets),
                _renderer(format_),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    take_over()
    _hush_probes(hushed=level != "debug")
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


def _hush_probes(*, hushed: bool) -> None:
    theirs = logging.getLogger(ACCESS)
    theirs.filters.clear()
    if hushed:
        theirs.addFilter(_is_no_probe)


def _is_no_probe(record: logging.LogRecord) -> bool:
    args = record.args
    path = args[2] if isinstance(args, tuple) and len(args) == VISIT else ""
    return not str(path).startswith(PROBES)


def _without_nothing(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {n: v for n, v in event.items() if v is not None and n != "color_message"}


def _visit(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A visit as uvicorn tells it, in fields like any other line."""
    args = cast("Sequence[Any]", event.pop("positional_args", ()))
    record = cast("logging.LogRecord", event["_record"])
    if record.name != ACCESS or len(args) != VISIT:
        return event
    client, method, path, _http, status = args
    event.update(event="http.request", client=client, method=method, path=path, status=status)
    return event


def _without_secrets(secrets: Collection[str]) -> Processor:
    clean = redact.redactor(tuple(secrets))

    def process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return clean(event)

    return process


def _renderer(format_: Format) -> Processor:
    if format_ == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `name` and whatever is bound in the context."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
