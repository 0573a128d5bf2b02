"""Handlers of /operator: organisations, tokens, limits and usage, for the operator's tokens.

They call what the commands `org` and `token` call.
"""

from dataclasses import asdict
from datetime import timedelta

from app.core.enums import Scope
from app.core.errors import InvalidValue, UnknownOrg
from app.orgs import admin, tokens, usage
from app.store import tenancy
from app.store.orgs import orgs
from app.store.orgs import usage as usage_rows
from app.store.orgs.orgs import Org
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, delete, get, patch, post
from app.web.api.schemas.operator import (
    OrganizationBody,
    OrganizationChange,
    OrganizationCreate,
    Organizations,
    TokenBody,
    TokenCreate,
    TokenCreated,
    Tokens,
)
from app.web.api.schemas.usage import UsageBody

NO_ROWS = (0, 0)


async def list_organizations(request: ApiRequest) -> ApiResponse:
    """List the organisations with their own limits and what each stores."""
    pool = request.context.pool
    found, stored = await orgs.all_of(pool), await usage_rows.stored(pool)
    lines = [_org(one, stored.get(one.id, NO_ROWS)) for one in found]
    return ApiResponse(Organizations(organizations=lines))


async def create_organization(request: ApiRequest) -> ApiResponse:
    """Create an organisation."""
    body: OrganizationCreate = request.body
    try:
        async with tenancy.transaction(request.context.pool, None) as connection:
            org_id = await tokens.create_org(connection, body.name, request.now)
    except UnknownOrg as error:
        raise InvalidValue("name", str(error)) from None
    found = await admin.find(request.context.pool, org_id)
    return ApiResponse(_org(found, NO_ROWS), {"location": f"/operator/organizations/{org_id}"})


async def read_organization(request: ApiRequest) -> ApiResponse:
    """Read an organisation."""
    pool = request.context.pool
    found = await admin.find(pool, request.path["org_id"])
    stored = await usage_rows.stored(pool)
    return ApiResponse(_org(found, stored.get(found.id, NO_ROWS)))


async def change_organization(request: ApiRequest) -> ApiResponse:
    """Disable or enable an organisation, and set limits of its own; null is the default again."""
    body: OrganizationChange = request.body
    pool = request.context.pool
    found = await admin.find(pool, request.path["org_id"])
    try:
        await admin.set_limits(pool, found, body.limits)
    except UnknownOrg as error:
        raise InvalidValue("limits", str(error)) from None
    if "disabled" in body.model_fields_set and body.disabled is not (found.disabled_at is not None):
        change = admin.disable if body.disabled else admin.enable
        await change(pool, found, request.now)
    return await read_organization(request)


async def read_organization_usage(request: ApiRequest) -> ApiResponse:
    """Read an organisation's limits, what is used of them, and its last months."""
    context = request.context
    found = await admin.find(context.pool, request.path["org_id"])
    report = await usage.report(context.pool, context.config, found.id, request.now)
    return ApiResponse(UsageBody.model_validate(report))


async def list_tokens(request: ApiRequest) -> ApiResponse:
    """List the tokens of an organisation or of the operator, without their secrets."""
    org_id = request.path.get("org_id")
    if org_id is not None:
        await admin.find(request.context.pool, org_id)
    rows = await orgs.tokens(request.context.pool, org_id)
    return ApiResponse(Tokens(tokens=[TokenBody.model_validate(row) for row in rows]))


async def create_token(request: ApiRequest) -> ApiResponse:
    """Create a token of an organisation or of the operator; its secret is shown this once."""
    body: TokenCreate = request.body
    pool = request.context.pool
    org_id = request.path.get("org_id")
    org = None if org_id is None else (await admin.find(pool, org_id)).name
    expires_at = None if body.days is None else request.now + timedelta(days=body.days)
    wanted = tokens.TokenRequest(org, body.label, body.scope, expires_at, body.data)
    async with tenancy.transaction(pool, None) as connection:
        by = request.principal.name
        secret = await tokens.create_token(connection, wanted, request.now, by=by)
    created = next(row for row in await orgs.tokens(pool, org_id) if row.id == wanted.id)
    answer = TokenCreated(**TokenBody.model_validate(created).model_dump(), token=secret)
    return ApiResponse(answer, {"location": f"/operator/tokens/{created.id}"})


async def revoke_token(request: ApiRequest) -> ApiResponse:
    """Revoke a token of anyone. It stops working at once."""
    await admin.revoke(request.context.pool, request.path["token_id"], request.now)
    return ApiResponse()


def _org(found: Org, stored: tuple[int, int]) -> OrganizationBody:
    own = {"rows": stored[0], "stored_mb": round(stored[1] / usage.BYTES_PER_MB, 3)}
    return OrganizationBody.model_validate(asdict(found) | own)


ORGS = "/operator/organizations"
ORG = "/operator/organizations/{org_id}"


def _tokens(prefix: str) -> tuple[Endpoint, ...]:
    path = f"{prefix}/tokens"
    return (
        get(path, Scope.READ, list_tokens, Tokens, errors=(404,)),
        post(
            path,
            Scope.ADMIN,
            create_token,
            TokenCreated,
            status=201,
            body=TokenCreate,
            secret=True,
            errors=(404,),
        ),
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    get(ORGS, Scope.READ, list_organizations, Organizations),
    post(
        ORGS,
        Scope.ADMIN,
        create_organization,
        OrganizationBody,
        status=201,
        body=OrganizationCreate,
    ),
    get(ORG, Scope.READ, read_organization, OrganizationBody),
    patch(ORG, Scope.ADMIN, change_organization, OrganizationBody, body=OrganizationChange),
    get(f"{ORG}/usage", Scope.READ, read_organization_usage, UsageBody),
    *_tokens("/operator"),
    *_tokens(ORG),
    delete("/operator/tokens/{token_id}", Scope.ADMIN, revoke_token, status=204),
)
