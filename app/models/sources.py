"""Recipes that organisations have written, and what sources use of their budgets."""

from datetime import date, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint
from sqlmodel import Field, SQLModel

from app.models.columns import instant
from app.models.orgs import org


class OrgSourceRow(SQLModel, table=True):
    """One recipe of an organisation, as it was submitted."""

    __tablename__: ClassVar[Any] = "org_sources"

    org_id: UUID = Field(sa_column=org(primary=True))
    name: str = Field(primary_key=True)
    recipe: str
    revision: int = Field(default=1)
    created_at: datetime = Field(sa_column=instant(default_now=True))
    updated_at: datetime = Field(sa_column=instant(default_now=True))


class OrgSourceRevisionRow(SQLModel, table=True):
    """One revision of a recipe: its text, who stored it, and when."""

    __tablename__: ClassVar[Any] = "org_source_revisions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "name"],
            ["org_sources.org_id", "org_sources.name"],
            name="org_source_revisions_source",
            ondelete="CASCADE",
        ),
    )

    org_id: UUID = Field(sa_column=org(primary=True))
    name: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    recipe: str
    by: str | None = None
    at: datetime = Field(sa_column=instant())


class SourceUsageRow(SQLModel, table=True):
    """The requests of a source with a budget in one month, in the units of the site's plan."""

    __tablename__: ClassVar[Any] = "source_usage"

    source: str = Field(primary_key=True)
    month: date = Field(primary_key=True)
    requests: int = Field(sa_type=BigInteger)
