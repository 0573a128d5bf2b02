"""Logging through structlog, for the application, arq and uvicorn: one line per event."""

import json
import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

from app.core import redact
from app.core.lazy_import import hidden

# rich: a fifth of a command's start, for tracebacks that are formatted without it. greenlet: for a
# module of structlog that is not used.
with hidden("rich"), hidden("greenlet"):
    import structlog
    from structlog.types import EventDict, Processor, WrappedLogger

Format = Literal["json", "console"]

# Loggers whose info lines repeat events of the application.
NOISY_LOGGERS = ("arq.worker", "httpx", "alembic.runtime.plugins")
ACCESS_LOGGER = "uvicorn.access"
PROBE_PATHS = (
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    "/badge/",
)  # not logged, unless at level debug
ACCESS_ARGS = 5  # arguments of an access log record: client, method, path, HTTP version, status


def configure(
    format_: Format = "console", level: str = "info", secrets: Collection[str] = ()
) -> None:
    """Configure structlog and the root logger to write `format_` to stderr. Safe to call again.

    `secrets`: texts to redact, in addition to whatever looks like a secret.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        _drop_none,
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
    # Lines do not say where in the code they were written: do not look for it.
    cast("Any", logging)._srcfile = None  # noqa: SLF001 - as the logging HOWTO says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [_handler(shared, format_, secrets)]
    root.setLevel(level.upper())
    adopt_library_loggers()
    _filter_probes(enabled=level != "debug")
    # It logs a traceback every second while Postgres is unreachable; the heartbeat logs one line.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    # Their lines have parts of URLs, which are secrets; what fails is an event of the application.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if level != "debug":
        for name in NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class LoggingState:
    """How this process logs, to be kept from jobs that configure logging for themselves."""

    level: int
    handlers: Sequence[logging.Handler]
    structlog: Mapping[str, Any]
    disabled: tuple[int, bool]  # levels, and loggers: a configuration disables all there are

    @classmethod
    def now(cls) -> "LoggingState":
        """The present state."""
        root, own = logging.getLogger(), logging.getLogger(__name__)
        disabled = root.manager.disable, own.disabled
        return cls(root.level, tuple(root.handlers), structlog.get_config(), disabled)

    def restore(self) -> None:
        """Undo what has been changed since, and log that: lines would not be redacted, or lost."""
        if LoggingState.now() == self:
            return
        root = logging.getLogger()
        root.handlers[:] = self.handlers
        root.setLevel(self.level)
        logging.disable(self.disabled[0])
        for known in root.manager.loggerDict.values():
            if isinstance(known, logging.Logger):
                known.disabled = False
        structlog.configure(**self.structlog)
        logger(__name__).warning("logging.restored", fix="a job leaves the configuration as it is")


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to stderr, also after a job has closed it: its descriptor stays open."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream.closed:
            self.stream = sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8")  # noqa: SIM115 - for the rest of the process
        super().emit(record)


def _handler(
    shared: Sequence[Processor], format_: Format, secrets: Collection[str]
) -> logging.Handler:
    handler = _StderrHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            pass_foreign_args=True,
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _access_fields, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact(secrets),
                _renderer(format_),
            ],
        )
    )
    return handler


def report_fatal(message: str, format_: Format) -> None:
    """Write why the process ends, as one line of JSON or as a sentence, to stderr."""
    clean = redact.text(message)
    if format_ == "json":
        event = {"event": "process.ended", "level": "critical", "error": clean}
        clean = json.dumps(event | {"timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"})
    sys.stderr.write(f"{clean}\n")


def adopt_library_loggers() -> None:
    """Remove the handlers of arq and uvicorn, so that their records reach the root handler once."""
    for name in ("arq", "uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


def _filter_probes(*, enabled: bool) -> None:
    access = logging.getLogger(ACCESS_LOGGER)
    access.filters.clear()
    if enabled:
        access.addFilter(_is_not_probe)


def _is_not_probe(record: logging.LogRecord) -> bool:
    args = record.args
    path = args[2] if isinstance(args, tuple) and len(args) == ACCESS_ARGS else ""
    return not str(path).startswith(PROBE_PATHS)


def _drop_none(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {n: v for n, v in event.items() if v is not None and n != "color_message"}


def _access_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Turn an access log record of uvicorn into an `http.request` event with fields."""
    args = cast("Sequence[Any]", event.pop("positional_args", ()))
    record = cast("logging.LogRecord", event["_record"])
    if record.name != ACCESS_LOGGER or len(args) != ACCESS_ARGS:
        return event
    client, method, path, _http, status = args
    event.update(event="http.request", client=client, method=method, path=path, status=status)
    return event


def _redact(secrets: Collection[str]) -> Processor:
    clean = redact.redactor(tuple(secrets))

    def process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return clean(event)

    return process


def _renderer(format_: Format) -> Processor:
    if format_ == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger that adds `name` and the bound context to every event."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
