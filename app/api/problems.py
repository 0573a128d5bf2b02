"""Refusals: every error of the API in one shape, application/problem+json (RFC 9457)."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from uuid import UUID

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from app.errors import (
    BadRecipe,
    BadSchedule,
    Conflicting,
    NotThere,
    Outdated,
    OverLimit,
    Unauthorized,
    Unsuitable,
)
from app.recipes import load as recipes
from app.store.db import AWAY

MEDIA_TYPE = "application/problem+json"
BAD_CRON = "Invalid cron expression"
RETRY_AFTER = {"retry-after": "5"}
MOST_SHOWN = 20  # faults in one answer


class Fault(BaseModel):
    """One field that cannot be taken, and why. In a recipe also where, and how to mend it."""

    field: str
    message: str
    line: int | None = None
    key: str | None = None
    mend: str | None = None


class ProblemBody(BaseModel):
    """What went wrong. `errors` names the fields, `blocking_run_id` the run in the way."""

    model_config = ConfigDict(title="Problem")

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    errors: list[Fault] | None = None
    blocking_run_id: UUID | None = None


class Problem(Exception):
    """A refusal on its way to whoever asked."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        blocking_run_id: UUID | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.blocking_run_id = blocking_run_id

    def answer(self) -> Response:
        """As it goes over the wire."""
        body = ProblemBody(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            errors=self.errors or None,
            blocking_run_id=self.blocking_run_id,
        )
        headers = {"cache-control": "no-store"} | self.headers
        text = body.model_dump_json(exclude_none=True)
        return Response(text, self.status, headers, MEDIA_TYPE)


def of_fields(faults: Iterable[Fault]) -> Problem:
    """422, with the fields named."""
    shown = list(faults)[:MOST_SHOWN]
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in shown)
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=shown)


def of_field(field: str, message: str) -> Problem:
    """422, with the one field named."""
    return of_fields([Fault(field=field, message=message)])


def of_recipe(error: BadRecipe) -> Problem:
    """422, with each fault of a recipe: its line, its key, what is wrong, and the mend."""
    faults = [fault for fault in error.faults if isinstance(fault, recipes.Fault)][:MOST_SHOWN]
    told = [
        Fault(
            field="recipe",
            message=fault.problem,
            line=fault.line,
            key=fault.key or None,
            mend=fault.mend or None,
        )
        for fault in faults
    ]
    detail = "; ".join(f"recipe: {fault}" for fault in faults) or "recipe: it cannot be used"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=told)


def of_validation(error: ValidationError, known: Iterable[str], whole: str) -> Problem:
    """422, with each field that pydantic did not take; `whole` is what holds the fields."""
    names = ", ".join(known) or "none"
    return of_fields(
        Fault(
            field=".".join(map(str, fault["loc"])) or whole,
            message=f"is not known here; known: {names}"
            if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
            else fault["msg"].removeprefix("Value error, "),
        )
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    )


def of_cron(error: BadSchedule) -> Problem:
    """400, which says where the expression is wrong and why; 422 if it is the zone."""
    said = str(error)
    if not said.startswith(BAD_CRON):
        return of_field("timezone", said)
    return Problem(
        HTTPStatus.BAD_REQUEST, f"{BAD_CRON}: {said.removeprefix(BAD_CRON).lstrip(': ')}"
    )


def of_error(error: Exception) -> Problem | None:
    """What an error of the house is called over HTTP; None for one that nobody expected."""
    if isinstance(error, Problem):
        return error
    return _of_the_house(error) or _of_postgres(error)


def _of_the_house(error: Exception) -> Problem | None:
    if isinstance(error, BadSchedule):
        return of_cron(error)
    if isinstance(error, BadRecipe):
        return of_recipe(error)
    if isinstance(error, Unsuitable):
        return of_field(error.field, str(error))
    if isinstance(error, Conflicting):
        return Problem(HTTPStatus.CONFLICT, str(error), blocking_run_id=error.run_id)
    for kind, (status, headers) in _PLAIN.items():
        if isinstance(error, kind):
            return Problem(status, str(error), headers=headers)
    return None


_PLAIN: Mapping[type[Exception], tuple[HTTPStatus, Mapping[str, str]]] = {
    Unauthorized: (HTTPStatus.UNAUTHORIZED, {"www-authenticate": 'Bearer realm="rollcall"'}),
    NotThere: (HTTPStatus.NOT_FOUND, {}),
    Outdated: (HTTPStatus.PRECONDITION_FAILED, {}),
    OverLimit: (HTTPStatus.TOO_MANY_REQUESTS, {"retry-after": "3600"}),
}


def _of_postgres(error: Exception) -> Problem | None:
    if isinstance(error, asyncpg.DataError | UnicodeError):
        detail = "the request holds a value that the database cannot keep"
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    if isinstance(error, (*AWAY, asyncpg.PostgresError)):
        detail = "the database does not answer; nothing was changed by this request, or all of it"
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER)
    return None
