"""An address of the API, declared once: the route, the checks and the document come of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel

from app.api.desk import Answer, Asking
from app.words import Scope

Handler = Callable[[Asking], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one address.

    `answer`: the model of the body, none for an empty one. `body`, `query`: what is taken.
    `optional`: the body may be left away. `etag`: the answer has one. `if_match`: may be sent.
    `refusals`: statuses beside those that every address has. `seconds`: for all of a request.
    """

    method: str
    path: str
    scope: Scope
    handler: Handler
    answer: type[BaseModel] | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    optional: bool = False
    query: type[BaseModel] | None = None
    etag: bool = False
    if_match: bool = False
    refusals: tuple[int, ...] = ()
    seconds: float = 10.0

    @property
    def name(self) -> str:
        """The operation's id in the document."""
        return self.handler.__name__

    @property
    def summary(self) -> str:
        """What it does: the handler's own first line."""
        return (self.handler.__doc__ or self.name).strip().splitlines()[0].rstrip(".")
