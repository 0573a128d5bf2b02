"""Encrypted secrets with which the sources of organisations authenticate."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Column, ForeignKey, LargeBinary
from sqlmodel import Field, SQLModel

from app.models.columns import instant


class OrgSecretRow(SQLModel, table=True):
    """One secret. `ciphertext` is bound to the key, the organisation and the name."""

    __tablename__: ClassVar[Any] = "org_secrets"

    org_id: UUID = Field(
        sa_column=Column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    )
    name: str = Field(primary_key=True)
    ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    updated_at: datetime = Field(sa_column=instant())
