"""Column factories and constraints that several tables share."""

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, text
from sqlalchemy.dialects.postgresql import JSONB


def instant(*, null: bool = False, default_now: bool = False) -> Column[Any]:
    """Return a `timestamptz` column."""
    default = text("now()") if default_now else None
    return Column(DateTime(timezone=True), nullable=null, server_default=default)


def json(default: str | None = "{}") -> Column[Any]:
    """Return a JSONB column; `default` None makes it nullable."""
    if default is None:
        return Column(JSONB, nullable=True)
    return Column(JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


def one_of(column: str, values: type[StrEnum], name: str) -> CheckConstraint:
    """Return a CHECK constraint that allows the values of an enum. Null passes it."""
    listed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


def page_order() -> Column[Any]:
    """Return the column for the order of the page that last wrote the row; 0 if none did."""
    return Column(BigInteger, nullable=False, server_default=text("0"))
