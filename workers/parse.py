"""Runs a source's own code: its generators and its parser, large pages off the event loop.

A source raises only Failure; any other exception becomes Schema, because it means an unexpected
page.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import ParamSpec, TypeVar

from app.core.errors import Failure, Schema
from app.core.messages import RawPage, SourceRequest
from app.core.records import Record
from app.sources.base import SandboxedSource, Source, sandbox_lock_key
from app.sources.recipes.sandbox import Sandbox

OFF_LOOP_BYTES = 256 * 1024  # bytes; more are read in a thread, so that the event loop goes on

Args = ParamSpec("Args")
Result = TypeVar("Result")


def advance(
    generator: Generator[SourceRequest, RawPage, Result], answer: RawPage | Failure | None
) -> tuple[SourceRequest | None, Result | None]:
    """Pass an answer to a source's generator; returns its next request, or what it returned.

    `answer`: None starts the generator; a Failure is thrown into it. Raises Failure.
    """
    try:
        if isinstance(answer, Failure):
            return generator.throw(answer), None
        return (next(generator) if answer is None else generator.send(answer)), None
    except StopIteration as stop:
        return None, stop.value
    except Failure:
        raise
    except Exception as error:
        raise _unreadable(error, None if isinstance(answer, Failure) else answer) from error


async def read_in_sandbox(sandbox: Sandbox, source: Source, raw: RawPage) -> RawPage:
    """The page with what the sandbox read from it, if the source is untrusted. Raises Failure."""
    if not isinstance(source, SandboxedSource):
        return raw
    answer = await sandbox.read(sandbox_lock_key(source), source.sandbox_request(raw))
    return await off_loop(len(answer), source.with_sandbox_result, raw, answer)


async def records_of(source: Source, raw: RawPage) -> list[Record]:
    """The records of a page. Raises Failure if the page cannot be read."""
    return await off_loop(len(raw.body), _parse, source, raw)


async def off_loop(
    size: int, step: Callable[Args, Result], *args: Args.args, **options: Args.kwargs
) -> Result:
    """The result of `step`, which reads `size` bytes; of many bytes it runs in a thread."""
    if size > OFF_LOOP_BYTES:
        return await asyncio.to_thread(step, *args, **options)
    return step(*args, **options)


def _parse(source: Source, raw: RawPage) -> list[Record]:
    try:
        return list(source.parse(raw))
    except Failure:
        raise
    except Exception as error:
        raise _unreadable(error, raw) from error


def _unreadable(error: Exception, raw: RawPage | None) -> Schema:
    message = f"the page could not be read: {type(error).__name__}: {error}"
    return Schema(message, status=raw and raw.status, url=raw and raw.url)
