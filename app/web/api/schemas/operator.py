"""Bodies of the operator's endpoints: organisations and tokens."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.core.enums import Scope
from app.web.api.schemas.base import Name, RequestModel, ResponseModel

OrgName = Annotated[str, Field(min_length=1, max_length=80, examples=["Acme Odds"])]


class OrganizationCreate(RequestModel):
    """A new organisation."""

    name: OrgName


class OrganizationChange(RequestModel):
    """Fields to change. `limits`: by name; null is the default of the settings again."""

    disabled: bool = False
    limits: dict[str, Annotated[float, Field(ge=0, le=1e12)] | None] = Field(default_factory=dict)


class OrganizationBody(ResponseModel):
    """An organisation, with the limits set for it and what it stores."""

    id: UUID
    name: str
    created_at: AwareDatetime
    disabled_at: AwareDatetime | None
    limits: dict[str, float]
    rows: int
    stored_mb: float


class Organizations(ResponseModel):
    """All organisations, by name."""

    organizations: list[OrganizationBody]


class TokenCreate(RequestModel):
    """A new token. `days`: until it expires; null is never.

    `data`: whether one of an organisation may read the operator's odds and news.
    """

    label: Name = "api"
    scope: Scope = Scope.READ
    days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    data: bool = False


class TokenBody(ResponseModel):
    """A token without its secret. `org_id`: null is the operator."""

    id: UUID
    org_id: UUID | None
    label: str
    scope: Scope
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    data: bool


class TokenCreated(TokenBody):
    """A token that was just created, with its secret."""

    token: str


class Tokens(ResponseModel):
    """The tokens of an organisation or of the operator, oldest first."""

    tokens: list[TokenBody]
