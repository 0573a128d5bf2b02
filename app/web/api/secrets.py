"""Handlers of /collection/secrets: list names, set, delete. Values are never returned."""

from http import HTTPStatus

from app.core.errors import BadConfig, BadParameters, Conflicting, NotThere, OverLimit
from app.orgs import secret_box, secrets
from app.web.api import problems, schemas
from app.web.api.context import Answer, Asking
from app.web.api.problems import Problem

AN_HOUR = {"retry-after": "3600"}


async def list_secrets(request: Asking) -> Answer:
    """List the names of the secrets, and when each was last set."""
    names = await secrets.names(request.desk.pool, request.org_id)
    return Answer(
        schemas.SecretNames(
            secrets=[schemas.SecretName(name=name, updated_at=at) for name, at in names]
        )
    )


async def put_secret(request: Asking) -> Answer:
    """Set a secret, stored encrypted; replaces one with the same name."""
    body: schemas.SecretWanted = request.body
    name, context = request.path["secret"], request.desk
    try:
        box = secret_box.of(context.config)
        await secrets.put(context.pool, box, request.org_id, (name, body.value), request.now)
    except BadConfig as error:
        raise without_key(error) from None
    except BadParameters as error:
        field, _, message = str(error).partition(": ")
        raise problems.of_field(field, message) from None
    except OverLimit as error:
        raise Conflicting(str(error)) from None
    return Answer(schemas.SecretName(name=name, updated_at=request.now))


async def delete_secret(request: Asking) -> Answer:
    """Delete a secret; sources that reference it can no longer log in."""
    name = request.path["secret"]
    if not await secrets.delete(request.desk.pool, request.org_id, name):
        raise NotThere("there is no secret with that name")
    return Answer()


def without_key(error: BadConfig) -> Problem:
    """Return a 503: only the operator can fix the key."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=AN_HOUR)
