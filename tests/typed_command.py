"""Commands as they are typed; each runs in a thread, because it has an event loop of its own."""

import anyio.to_thread
from typer.testing import CliRunner, Result

from app.cli.main import app


async def typed(*words: str, answer: str | None = None) -> Result:
    """Type a command; returns what it printed and its exit code."""
    return await anyio.to_thread.run_sync(
        lambda: CliRunner().invoke(app, list(words), input=answer)
    )


async def printed(*words: str) -> str:
    """Type a command that succeeds; returns what it printed."""
    result = await typed(*words)
    assert result.exit_code == 0, result.output
    return result.output
