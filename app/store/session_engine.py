"""The engine of the sessions of jobs, which loads SQLAlchemy and connects on first use."""

from typing import TYPE_CHECKING

from app.store.runs.attempt_rows import ClaimedRun

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlmodel.ext.asyncio.session import AsyncSession


class SessionEngine:
    """Opens sessions on up to `size` connections. `idle_limit`: as in `sessions.open_engine`."""

    def __init__(self, dsn: str, *, size: int, idle_limit: float) -> None:
        self._dsn = dsn
        self._size = size
        self._idle_limit = idle_limit
        self._engine: AsyncEngine | None = None

    def session(self, claimed: ClaimedRun) -> "AsyncSession":
        """A session whose commits are fenced by the lease of the run."""
        from app.store import sessions  # noqa: PLC0415 - a worker without own jobs never needs it

        if self._engine is None:
            self._engine = sessions.open_engine(
                self._dsn, size=self._size, idle_limit=self._idle_limit
            )
        return sessions.fenced_session(self._engine, claimed)

    async def dispose(self) -> None:
        """Close the connections."""
        if self._engine is not None:
            await self._engine.dispose()
