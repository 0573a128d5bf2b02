"""Handlers of /collection/channels: the channels for alerts of an organisation's collections."""

from app.core.enums import Scope
from app.core.errors import BadConfig, NotFound
from app.orgs import alert_channels
from app.orgs.alert_channels import ChannelRequest
from app.store.db import Connection
from app.store.orgs import alert_channels as store
from app.store.orgs.alert_channels import StoredAlertChannel
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, delete, get, post
from app.web.api.schemas.channels import ChannelBody, ChannelCreate, Channels
from app.web.api.secrets import of_missing_key


async def list_channels(request: ApiRequest) -> ApiResponse:
    """List the alert channels, oldest first."""
    async with request.transaction() as connection:
        found = await store.all_of(connection, request.org_id)
    return ApiResponse(Channels(channels=[ChannelBody.model_validate(one) for one in found]))


async def create_channel(request: ApiRequest) -> ApiResponse:
    """Create an alert channel; its URL is stored encrypted and never returned."""
    body: ChannelCreate = request.body
    context, by = request.context, request.principal.name
    wanted = ChannelRequest(body.label, body.url, body.collections, body.severities)
    try:
        created = await alert_channels.create(
            context.pool, context.config, request.org_id, wanted, by, request.now
        )
    except BadConfig as error:
        raise of_missing_key(error) from None
    return ApiResponse(
        ChannelBody.model_validate(created), {"location": f"{CHANNELS}/{created.id}"}
    )


async def read_channel(request: ApiRequest) -> ApiResponse:
    """Read an alert channel, with what came of its messages."""
    async with request.transaction() as connection:
        return ApiResponse(ChannelBody.model_validate(await _existing(connection, request)))


async def delete_channel(request: ApiRequest) -> ApiResponse:
    """Delete an alert channel with its messages."""
    async with request.transaction() as connection:
        if not await store.remove(connection, request.org_id, request.path["channel_id"]):
            raise _not_found()
    return ApiResponse()


async def test_channel(request: ApiRequest) -> ApiResponse:
    """Send a test; `last_sent_at` or `last_error` of the channel says what came of it."""
    async with request.transaction() as connection:
        found = await _existing(connection, request)
        await alert_channels.enqueue_test(connection, request.org_id, found, request.now)
        body = ChannelBody.model_validate(await _existing(connection, request))
    return ApiResponse(body, {"location": f"{CHANNELS}/{found.id}"})


async def _existing(connection: Connection, request: ApiRequest) -> StoredAlertChannel:
    found = await store.one(connection, request.org_id, request.path["channel_id"])
    if found is None:
        raise _not_found()
    return found


def _not_found() -> NotFound:
    return NotFound("there is no alert channel with that id")


CHANNELS = "/collection/channels"
CHANNEL = "/collection/channels/{channel_id}"


ENDPOINTS: tuple[Endpoint, ...] = (
    get(CHANNELS, Scope.READ, list_channels, Channels),
    post(CHANNELS, Scope.ADMIN, create_channel, ChannelBody, status=201, body=ChannelCreate),
    get(CHANNEL, Scope.READ, read_channel, ChannelBody),
    delete(CHANNEL, Scope.ADMIN, delete_channel, status=204),
    post(f"{CHANNEL}/test", Scope.OPERATE, test_channel, ChannelBody, status=202),
)
