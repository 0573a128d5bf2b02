"""Column shapes that several tables share."""

from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, text
from sqlalchemy.dialects.postgresql import JSONB


def instant(*, null: bool = False, default_now: bool = False) -> Column[Any]:
    """A UTC instant."""
    default = text("now()") if default_now else None
    return Column(DateTime(timezone=True), nullable=null, server_default=default)


def json(default: str | None = "{}") -> Column[Any]:
    """A JSON document; `default` None makes it nullable."""
    if default is None:
        return Column(JSONB, nullable=True)
    return Column(JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


def one_of(column: str, words: type[StrEnum], name: str) -> CheckConstraint:
    """Only the closed set, in the database too. Null passes where the column may be null."""
    listed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=name)
