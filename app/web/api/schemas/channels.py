"""Bodies of alert channels."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field, PlainSerializer, SecretStr

from app.core.enums import AlertSeverity
from app.web.api.schemas.base import CollectionName, Name, RequestModel, ResponseModel

MAX_FILTERS = 100


class ChannelCreate(RequestModel):
    """A new channel: the Apprise URL of a service, and what it gets; an empty list is all."""

    label: Name
    url: Annotated[
        SecretStr,
        Field(min_length=1, max_length=2000, examples=["slack://A/B/C"]),
        PlainSerializer(SecretStr.get_secret_value, when_used="json"),  # for idempotency keys
    ]
    collections: Annotated[list[CollectionName], Field(max_length=MAX_FILTERS)] = Field(
        default_factory=list[CollectionName]
    )
    severities: Annotated[list[AlertSeverity], Field(max_length=3)] = Field(
        default_factory=list[AlertSeverity]
    )


class ChannelBody(ResponseModel):
    """A channel, without its URL. `last_error`: of the newest message that was not sent."""

    id: UUID
    label: str
    service: str
    collections: list[str]
    severities: list[AlertSeverity]
    created_at: AwareDatetime
    created_by: str
    waiting: int
    last_sent_at: AwareDatetime | None
    last_error: str | None


class Channels(ResponseModel):
    """The organisation's alert channels, oldest first."""

    channels: list[ChannelBody]
