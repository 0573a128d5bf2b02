"""Handlers of /collection/webhooks: addresses that get an organisation's changes."""

from typing import Any
from uuid import uuid4

from app.core.enums import Scope
from app.core.errors import BadConfig, NotFound
from app.orgs import webhooks
from app.store.db import Connection
from app.store.orgs import webhooks as store
from app.store.orgs.webhooks import Webhook
from app.web.api import changes, cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, delete, get, post
from app.web.api.schemas.schedule import PauseRequest
from app.web.api.schemas.webhooks import (
    Deliveries,
    DeliveriesQuery,
    DeliveryBody,
    Replayed,
    WebhookBody,
    WebhookCreate,
    WebhookCreated,
    WebhookReplay,
    Webhooks,
    WebhookTest,
)
from app.web.api.secrets import of_missing_key

PAUSED = "paused by {by}: {note}"


async def list_webhooks(request: ApiRequest) -> ApiResponse:
    """List the webhooks, oldest first."""
    async with request.transaction() as connection:
        found = await store.all_of(connection, request.org_id)
    return ApiResponse(Webhooks(webhooks=[WebhookBody.model_validate(one) for one in found]))


async def create_webhook(request: ApiRequest) -> ApiResponse:
    """Create a webhook, which gets what changes from now on; its secret is shown this once."""
    body: WebhookCreate = request.body
    context, by = request.context, request.principal.name
    try:
        webhook_id, secret = await webhooks.create(
            context.pool, context.config, request.org_id, body.url, by, request.now
        )
    except BadConfig as error:
        raise of_missing_key(error) from None
    async with request.transaction() as connection:
        created = WebhookBody.model_validate(await _existing(connection, request, webhook_id))
    answer = WebhookCreated(**created.model_dump(), secret=secret)
    return ApiResponse(answer, {"location": f"/collection/webhooks/{webhook_id}"})


async def read_webhook(request: ApiRequest) -> ApiResponse:
    """Read a webhook."""
    async with request.transaction() as connection:
        return ApiResponse(WebhookBody.model_validate(await _existing(connection, request)))


async def delete_webhook(request: ApiRequest) -> ApiResponse:
    """Delete a webhook with its deliveries."""
    async with request.transaction() as connection:
        if not await store.remove(connection, request.org_id, request.path["webhook_id"]):
            raise _not_found()
    return ApiResponse()


async def pause_webhook(request: ApiRequest) -> ApiResponse:
    """Pause a webhook: deliveries wait until it is resumed."""
    body: PauseRequest = request.body
    reason = PAUSED.format(by=request.principal.name, note=body.note)
    async with request.transaction() as connection:
        found = await _existing(connection, request)
        await store.pause(connection, request.org_id, found.id, request.now, reason)
        return ApiResponse(WebhookBody.model_validate(await _existing(connection, request)))


async def resume_webhook(request: ApiRequest) -> ApiResponse:
    """Resume a webhook; what waits is sent at once."""
    async with request.transaction() as connection:
        found = await _existing(connection, request)
        await store.resume(connection, request.org_id, found.id)
        return ApiResponse(WebhookBody.model_validate(await _existing(connection, request)))


async def send_test(request: ApiRequest) -> ApiResponse:
    """Send a delivery without changes; its outcome is in the list of deliveries."""
    delivery_id = uuid4()
    async with request.transaction() as connection:
        found = await _existing(connection, request)
        await store.add_test(connection, request.org_id, found.id, delivery_id)
    location = f"/collection/webhooks/{found.id}/deliveries"
    body = WebhookTest(id=f"msg_{delivery_id.hex}")
    return ApiResponse(body, {"location": location})


async def replay_webhook(request: ApiRequest) -> ApiResponse:
    """Send the deliveries after a place in the feed again, each with the id that it had."""
    body: WebhookReplay = request.body
    place = changes.parse_place(body.after)
    async with request.transaction() as connection:
        found = await _existing(connection, request)
        after = (place.position, place.id)
        count = await store.replay(connection, request.org_id, found.id, after)
    return ApiResponse(Replayed(deliveries=count))


async def list_deliveries(request: ApiRequest) -> ApiResponse:
    """List a webhook's deliveries, newest first: made, waiting, or undelivered with the reason."""
    query: DeliveriesQuery = request.query
    before = cursor.decode_number(query.cursor)
    async with request.transaction() as connection:
        found = await _existing(connection, request)
        rows = await store.deliveries(
            connection, (request.org_id, found.id), query.state, before, query.limit + 1
        )
    page, following = cursor.page_of(rows, query.limit, "number")
    bodies = [DeliveryBody.model_validate(row | {"id": f"msg_{row['id'].hex}"}) for row in page]
    return ApiResponse(Deliveries(deliveries=bodies, next_cursor=following))


async def _existing(connection: Connection, request: ApiRequest, webhook_id: Any = None) -> Webhook:
    found = await store.one(connection, request.org_id, webhook_id or request.path["webhook_id"])
    if found is None:
        raise _not_found()
    return found


def _not_found() -> NotFound:
    return NotFound("there is no webhook with that id")


WEBHOOKS = "/collection/webhooks"
WEBHOOK = "/collection/webhooks/{webhook_id}"


ENDPOINTS: tuple[Endpoint, ...] = (
    get(WEBHOOKS, Scope.READ, list_webhooks, Webhooks),
    post(
        WEBHOOKS,
        Scope.ADMIN,
        create_webhook,
        WebhookCreated,
        status=201,
        body=WebhookCreate,
        secret=True,
    ),
    get(WEBHOOK, Scope.READ, read_webhook, WebhookBody),
    delete(WEBHOOK, Scope.ADMIN, delete_webhook, status=204),
    post(f"{WEBHOOK}/pause", Scope.OPERATE, pause_webhook, WebhookBody, body=PauseRequest),
    post(f"{WEBHOOK}/resume", Scope.OPERATE, resume_webhook, WebhookBody),
    post(f"{WEBHOOK}/test", Scope.OPERATE, send_test, WebhookTest, status=202),
    post(f"{WEBHOOK}/replay", Scope.OPERATE, replay_webhook, Replayed, body=WebhookReplay),
    get(f"{WEBHOOK}/deliveries", Scope.READ, list_deliveries, Deliveries, query=DeliveriesQuery),
)
