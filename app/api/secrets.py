"""Handlers of /collection/secrets: list names, set, delete. Values are never returned."""

from http import HTTPStatus

from app import safe, secrets
from app.api import problems, shapes
from app.api.desk import Answer, Asking
from app.api.problems import Problem
from app.errors import BadConfig, BadParameters, Conflicting, NotThere, OverLimit

AN_HOUR = {"retry-after": "3600"}


async def list_secrets(request: Asking) -> Answer:
    """List the names of the secrets, and when each was last set."""
    names = await secrets.names(request.desk.pool, request.org_id)
    return Answer(
        shapes.SecretNames(
            secrets=[shapes.SecretName(name=name, updated_at=at) for name, at in names]
        )
    )


async def put_secret(request: Asking) -> Answer:
    """Set a secret, stored encrypted; replaces one with the same name."""
    body: shapes.SecretWanted = request.body
    name, context = request.path["secret"], request.desk
    try:
        box = safe.of(context.config)
        await secrets.put(context.pool, box, request.org_id, (name, body.value), request.now)
    except BadConfig as error:
        raise without_key(error) from None
    except BadParameters as error:
        field, _, message = str(error).partition(": ")
        raise problems.of_field(field, message) from None
    except OverLimit as error:
        raise Conflicting(str(error)) from None
    return Answer(shapes.SecretName(name=name, updated_at=request.now))


async def delete_secret(request: Asking) -> Answer:
    """Delete a secret; sources that reference it can no longer log in."""
    name = request.path["secret"]
    if not await secrets.delete(request.desk.pool, request.org_id, name):
        raise NotThere("there is no secret with that name")
    return Answer()


def without_key(error: BadConfig) -> Problem:
    """Return a 503: only the operator can fix the key."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=AN_HOUR)
