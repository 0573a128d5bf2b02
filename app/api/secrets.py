"""The secrets' addresses: set, named, forgotten; never read."""

from http import HTTPStatus

from app import safe, secrets
from app.api import problems, shapes
from app.api.desk import Answer, Asking
from app.api.problems import Problem
from app.errors import BadConfig, BadParameters, Conflicting, NotThere, OverLimit

AN_HOUR = {"retry-after": "3600"}


async def list_secrets(asking: Asking) -> Answer:
    """List the names of the secrets, and when each was last set."""
    known = await secrets.names(asking.desk.pool, asking.org_id)
    return Answer(
        shapes.SecretNames(
            secrets=[shapes.SecretName(name=name, updated_at=at) for name, at in known]
        )
    )


async def put_secret(asking: Asking) -> Answer:
    """Keep a secret, sealed, in place of the one of that name."""
    body: shapes.SecretWanted = asking.body
    name, desk = asking.path["secret"], asking.desk
    try:
        sealing = safe.of(desk.config)
        await secrets.put(desk.pool, sealing, asking.org_id, (name, body.value), asking.now)
    except BadConfig as error:
        raise without_key(error) from None
    except BadParameters as error:
        field, _, why = str(error).partition(": ")
        raise problems.of_field(field, why) from None
    except OverLimit as error:
        raise Conflicting(str(error)) from None
    return Answer(shapes.SecretName(name=name, updated_at=asking.now))


async def delete_secret(asking: Asking) -> Answer:
    """Forget a secret; sources that name it cannot log in any more."""
    name = asking.path["secret"]
    if not await secrets.delete(asking.desk.pool, asking.org_id, name):
        raise NotThere("there is no secret of that name")
    return Answer()


def without_key(error: BadConfig) -> Problem:
    """503: it is the operator's to mend."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=AN_HOUR)
