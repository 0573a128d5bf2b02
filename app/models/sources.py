"""Recipes that organisations have written."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

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
