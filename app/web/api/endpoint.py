"""Endpoint: the declaration of an API operation, for its route, validation and OpenAPI entry."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel

from app.core.enums import Scope
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.schemas.base import EmptyRequest, OptionalRequest

Handler = Callable[[ApiRequest], Awaitable[ApiResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    `response`: the model of the response body, None if it is empty.
    `body`, `query`: the models of the request; a POST without `body` may have an empty object.
    `once`: a POST may have an idempotency key; not one that changes nothing. `secret`: its answer
    has a secret.
    `data`: for tokens of the operator, and of an organisation that may read its odds and news.
    `etag`: the response has an ETag. `if_match`: If-Match is accepted.
    `errors`: error statuses in addition to those that follow from the other fields.
    `seconds`: the time limit of a request; of a stream, until it begins.
    `stream`: the media types of a response that is streamed, besides that of `response`.
    """

    method: str
    path: str
    scope: Scope
    handler: Handler
    response: type[BaseModel] | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    etag: bool = False
    if_match: bool = False
    errors: tuple[int, ...] = ()
    seconds: float = 10.0
    stream: tuple[str, ...] = ()
    data: bool = False
    once: bool = True
    secret: bool = False

    @property
    def operator(self) -> bool:
        """Whether it is for tokens of the operator, else it is for those of an organisation."""
        return self.data or self.path.startswith("/operator/")

    @property
    def takes_key(self) -> bool:
        """Whether the request may have an idempotency key."""
        return self.once and self.method == "POST"

    @property
    def body_model(self) -> type[BaseModel] | None:
        """The model of the request's body; None if it has none."""
        return self.body or (EmptyRequest if self.method == "POST" else None)

    @property
    def needs_body(self) -> bool:
        """Whether a request without a body is refused."""
        return self.body is not None and not issubclass(self.body, OptionalRequest)

    @property
    def name(self) -> str:
        """The operation id in the OpenAPI document."""
        name = self.handler.__name__
        if "{collection}" in self.path:
            return f"{name}_of_collection"
        return f"{name}_of_organization" if "{org_id}/tokens" in self.path else name

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or self.name).strip().splitlines()[0].rstrip(".")


get, post, put, patch, delete = (
    partial(Endpoint, method) for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
)
