"""API errors as application/problem+json (RFC 9457), and the mapping of exceptions to them."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from uuid import UUID

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from app.core.errors import (
    BadParameters,
    BadRecipe,
    BadSchedule,
    Conflict,
    Gone,
    InvalidValue,
    NotFound,
    OverLimit,
    StaleEdit,
    Unauthorized,
    UnknownJob,
    WrongState,
)
from app.core.validation import fault_sentence
from app.sources.recipes import load as recipes
from app.store.db import UNAVAILABLE

MEDIA_TYPE = "application/problem+json"
BAD_CRON = "Invalid cron expression"
RETRY_AFTER = {"retry-after": "5"}
MAX_ERRORS = 20  # faults in one response


class FieldError(BaseModel):
    """One invalid field and why; for a recipe also its line, its key, and the fix (`mend`)."""

    field: str
    message: str
    line: int | None = None
    key: str | None = None
    mend: str | None = None


class ProblemBody(BaseModel):
    """An error. `errors`: the invalid fields. `blocking_run_id`: the open run that blocks it."""

    model_config = ConfigDict(title="Problem")

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    errors: list[FieldError] | None = None
    blocking_run_id: UUID | None = None


class Problem(Exception):
    """An error response: raised by handlers, sent to the client."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        blocking_run_id: UUID | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.blocking_run_id = blocking_run_id

    def response(self) -> Response:
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


def of_fields(faults: Iterable[FieldError]) -> Problem:
    """Return a 422 that names the fields."""
    shown = list(islice(faults, MAX_ERRORS))
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in shown)
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=shown)


def of_field(field: str, message: str) -> Problem:
    """Return a 422 that names the field."""
    return of_fields([FieldError(field=field, message=message)])


def of_recipe(error: BadRecipe) -> Problem:
    """Return a 422 with each fault of a recipe: its line, its key, what is wrong, and the fix."""
    faults = [fault for fault in error.faults if isinstance(fault, recipes.RecipeFault)][
        :MAX_ERRORS
    ]
    errors = [
        FieldError(
            field="recipe",
            message=fault.problem,
            line=fault.line,
            key=fault.key or None,
            mend=fault.fix or None,
        )
        for fault in faults
    ]
    detail = "; ".join(f"recipe: {fault}" for fault in faults) or "recipe: is not valid"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def of_validation(error: ValidationError, known: Iterable[str], whole: str) -> Problem:
    """Return a 422 with each field that pydantic rejected.

    `known`: the field names, listed for an unknown one. `whole`: the name for the object itself.
    """
    names = ", ".join(known) or "none"
    return of_fields(
        FieldError(
            field=".".join(map(str, fault["loc"])) or whole,
            message=f"is not known here; known: {names}"
            if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
            else fault_sentence(fault),
        )
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    )


def of_cron(error: BadSchedule) -> Problem:
    """Return a 400 that says where the cron expression is wrong; a 422 for the time zone."""
    message = str(error)
    if not message.startswith(BAD_CRON):
        return of_field("timezone", message)
    return Problem(
        HTTPStatus.BAD_REQUEST, f"{BAD_CRON}: {message.removeprefix(BAD_CRON).lstrip(': ')}"
    )


def of_error(error: Exception) -> Problem | None:
    """Translate an exception into a Problem; None if it is unexpected."""
    if isinstance(error, Problem):
        return error
    return _of_app_error(error) or _of_postgres(error)


def _of_app_error(error: Exception) -> Problem | None:
    if isinstance(error, BadSchedule):
        return of_cron(error)
    if isinstance(error, BadRecipe):
        return of_recipe(error)
    if isinstance(error, InvalidValue):
        return of_field(error.field, str(error))
    if isinstance(error, Conflict):
        return Problem(HTTPStatus.CONFLICT, str(error), blocking_run_id=error.run_id)
    for error_type, (status, headers) in _STATUSES.items():
        if isinstance(error, error_type):
            return Problem(status, str(error), headers=headers)
    return None


_STATUSES: Mapping[type[Exception], tuple[HTTPStatus, Mapping[str, str]]] = {
    Unauthorized: (HTTPStatus.UNAUTHORIZED, {"www-authenticate": 'Bearer realm="rollcall"'}),
    NotFound: (HTTPStatus.NOT_FOUND, {}),
    UnknownJob: (HTTPStatus.NOT_FOUND, {}),
    WrongState: (HTTPStatus.CONFLICT, {}),
    BadParameters: (HTTPStatus.UNPROCESSABLE_ENTITY, {}),
    Gone: (HTTPStatus.GONE, {}),
    StaleEdit: (HTTPStatus.PRECONDITION_FAILED, {}),
    OverLimit: (HTTPStatus.TOO_MANY_REQUESTS, {"retry-after": "3600"}),
}


def _of_postgres(error: Exception) -> Problem | None:
    if isinstance(error, asyncpg.DataError | UnicodeError):
        detail = "the request holds a value that the database cannot store"
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    if isinstance(error, asyncpg.ForeignKeyViolationError):
        detail = "what the request is about was deleted meanwhile; nothing was applied"
        return Problem(HTTPStatus.CONFLICT, detail)
    if isinstance(error, TimeoutError):
        detail = "the request took too long; it was applied as a whole or not at all"
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER)
    if isinstance(error, (*UNAVAILABLE, asyncpg.PostgresError)):
        detail = "the database is unavailable; the request was applied as a whole or not at all"
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER)
    return None
