"""Tables that files of jobs define, which a process has only once."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlmodel import SQLModel

from app.migrations.tables import tables


@contextmanager
def forgotten_afterwards() -> Generator[None]:
    """Forget the tables that are defined in the block, so that another test may define them too."""
    known = {*tables.tables, *SQLModel.metadata.tables}
    try:
        yield
    finally:
        for name in set(SQLModel.metadata.tables) - known:
            SQLModel.metadata.remove(SQLModel.metadata.tables[name])
