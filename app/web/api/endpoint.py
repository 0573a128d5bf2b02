"""Endpoint: the declaration of an API operation, for its route, validation and OpenAPI entry."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel

from app.core.enums import Scope
from app.web.api.context import ApiRequest, ApiResponse

Handler = Callable[[ApiRequest], Awaitable[ApiResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    `response`: the model of the response body, None if it is empty.
    `body`, `query`: the models of the request.
    `optional`: the body may be omitted.
    `etag`: the response has an ETag. `if_match`: If-Match is accepted.
    `errors`: error statuses in addition to those of every endpoint.
    `seconds`: the time limit of a request; of a stream, until it begins.
    `stream`: the media type of a response that is streamed.
    """

    method: str
    path: str
    scope: Scope
    handler: Handler
    response: type[BaseModel] | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    optional: bool = False
    query: type[BaseModel] | None = None
    etag: bool = False
    if_match: bool = False
    errors: tuple[int, ...] = ()
    seconds: float = 10.0
    stream: str | None = None

    @property
    def name(self) -> str:
        """The operation id in the OpenAPI document."""
        named = "_of_collection" if "{collection}" in self.path else ""
        return self.handler.__name__ + named

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or self.name).strip().splitlines()[0].rstrip(".")
