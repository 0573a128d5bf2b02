"""SQLModel sessions of jobs, whose commits are fenced by the lease of their run."""

from typing import Any
from uuid import uuid4

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import LeaseLost
from app.store import db
from app.store.runs.attempt_rows import ClaimedRun

# FOR SHARE: nobody takes the run over until the transaction has ended.
HOLDS = text("""
SELECT 1 FROM runs WHERE execution_id = :run_id AND lease_epoch = :epoch AND status = 'running'
FOR SHARE
""")


def open_engine(dsn: str, *, size: int, idle_limit: float) -> AsyncEngine:
    """An engine of up to `size` connections, which connects on first use; the caller disposes it.

    `idle_limit`: seconds after which Postgres ends an idle transaction.
    """
    settings = db.session_settings(idle_limit)

    def connect() -> Any:
        # Through a pooler, the server may know the names of another client's statements.
        return engine.sync_engine.dialect.dbapi.connect(  # pyright: ignore[reportOptionalMemberAccess]
            async_creator_fn=lambda: db.connect(dsn, settings),
            prepared_statement_cache_size=0,
            prepared_statement_name_func=lambda: f"rollcall_{uuid4().hex}",
        )

    engine = create_async_engine(
        "postgresql+asyncpg://", creator=connect, pool_size=size, max_overflow=0
    )
    return engine


class FencedSession(AsyncSession):
    """A session each of whose commits raises LeaseLost if another attempt holds the run."""


def fenced_session(engine: AsyncEngine, claimed: ClaimedRun) -> FencedSession:
    """The session of a run. Once closed it takes no connection again, for a task that goes on."""
    session = FencedSession(engine, expire_on_commit=False, close_resets_only=False)

    @event.listens_for(session.sync_session, "before_commit")
    def check(opened: Session) -> None:
        opened.flush()
        values = {"run_id": claimed.run_id, "epoch": claimed.epoch}
        if opened.connection().execute(HOLDS, values).first() is None:
            raise LeaseLost(claimed.run_id)

    del check
    return session
