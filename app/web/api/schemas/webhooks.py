"""Bodies of webhooks and their deliveries."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.core.enums import DeliveryState
from app.web.api.schemas.base import PageQuery, RequestModel, ResponseModel
from app.web.api.schemas.changes import Place


class WebhookCreate(RequestModel):
    """A new webhook: the https address that gets the changes."""

    url: Annotated[str, Field(min_length=1, max_length=2000, examples=["https://example.com/in"])]


class WebhookBody(ResponseModel):
    """A webhook. `next`: up to where deliveries were formed; `waiting`: how many of them wait."""

    id: UUID
    url: str
    created_at: AwareDatetime
    created_by: str
    paused_at: AwareDatetime | None
    paused_reason: str | None
    next: str
    waiting: int


class WebhookCreated(WebhookBody):
    """A webhook that was just created, with the secret of its signatures."""

    secret: str


class Webhooks(ResponseModel):
    """The organisation's webhooks, oldest first."""

    webhooks: list[WebhookBody]


class WebhookTest(ResponseModel):
    """The id of the delivery, which is sent as the header `webhook-id`."""

    id: str


class WebhookReplay(RequestModel):
    """After which place in the feed deliveries are sent again; 0 is the beginning."""

    after: Place


class Replayed(ResponseModel):
    """How many deliveries are sent again."""

    deliveries: int


class DeliveriesQuery(PageQuery):
    """Filter and pagination of deliveries."""

    state: DeliveryState | None = None


class DeliveryBody(ResponseModel):
    """One message: the changes after `after` up to `next`, `count` of them; a test has none.

    `next_try_at`: null once it has ended. `status`: of the last response. `reason`: why the last
    attempt failed.
    """

    id: str
    count: int
    state: DeliveryState
    attempts: int
    created_at: AwareDatetime
    next_try_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    status: int | None
    reason: str | None
    after: str
    next: str


class Deliveries(ResponseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryBody]
    next_cursor: str | None
