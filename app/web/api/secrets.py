"""Handlers of /collection/secrets: list names, set, delete. Values are never returned."""

from http import HTTPStatus

from app.core.enums import Scope
from app.core.errors import BadConfig, BadParameters, Conflict, NotFound, OverLimit
from app.orgs import secret_box, secrets
from app.web.api import problems
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, delete, get, put
from app.web.api.problems import Problem
from app.web.api.schemas.secrets import SecretName, SecretNames, SecretValue

RETRY_AFTER_HOUR = {"retry-after": "3600"}


async def list_secrets(request: ApiRequest) -> ApiResponse:
    """List the names of the secrets, and when each was last set."""
    names = await secrets.names(request.context.pool, request.org_id)
    return ApiResponse(
        SecretNames(secrets=[SecretName(name=name, updated_at=at) for name, at in names])
    )


async def put_secret(request: ApiRequest) -> ApiResponse:
    """Set a secret, stored encrypted; replaces one with the same name."""
    body: SecretValue = request.body
    name, context = request.path["secret"], request.context
    try:
        box = secret_box.from_config(context.config)
        await secrets.put(context.pool, box, request.org_id, (name, body.value), request.now)
    except BadConfig as error:
        raise of_missing_key(error) from None
    except BadParameters as error:
        field, _, message = str(error).partition(": ")
        raise problems.of_field(field, message) from None
    except OverLimit as error:
        raise Conflict(str(error)) from None
    return ApiResponse(SecretName(name=name, updated_at=request.now))


async def delete_secret(request: ApiRequest) -> ApiResponse:
    """Delete a secret; sources that reference it can no longer log in."""
    name = request.path["secret"]
    if not await secrets.delete(request.context.pool, request.org_id, name):
        raise NotFound("there is no secret with that name")
    return ApiResponse()


def of_missing_key(error: BadConfig) -> Problem:
    """Return a 503: only the operator can fix the key."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=RETRY_AFTER_HOUR)


SECRETS = "/collection/secrets"
SECRET = f"{SECRETS}/{{secret}}"


ENDPOINTS: tuple[Endpoint, ...] = (
    get(SECRETS, Scope.READ, list_secrets, SecretNames),
    put(SECRET, Scope.ADMIN, put_secret, SecretName, body=SecretValue, errors=(409,)),
    delete(SECRET, Scope.ADMIN, delete_secret, status=204),
)
