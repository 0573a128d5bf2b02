"""What every handler of the API gets and returns."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel

from app.core.collection_keys import DEFAULT_COLLECTION
from app.ledger.manual_runs import Act
from app.orgs.tokens import Principal
from app.store import tenancy
from app.store.db import Connection
from app.web.context import WebContext


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One validated API request: principal, time, path parameters, body, query and revision.

    `revision`: of If-Match; None if the request does not depend on one.
    `last_event_id`: what a client that reconnects to a stream got last.
    `idempotency_key`: of a POST that is to be made once; `sealing_key` encrypts its answer, if that
    has a secret.
    """

    context: WebContext
    principal: Principal
    now: datetime
    path: Mapping[str, Any]
    body: Any
    query: Any
    revision: int | None
    last_event_id: str | None = None
    idempotency_key: str | None = None
    sealing_key: bytes = field(default=b"", repr=False)

    @property
    def org_id(self) -> UUID:
        """The organisation whose rows the request may see. Routes refuse the operator before."""
        if self.principal.org_id is None:
            raise LookupError("the operator has no organisation")
        return self.principal.org_id

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction in which Postgres shows the rows of the organisation only."""
        return tenancy.org_transaction(self.context.pool, self.org_id)

    def act(self, reason: str | None = None) -> Act:
        """Who acts, when, and why."""
        return Act(self.principal.name, self.now, reason or "")

    @property
    def collection(self) -> str:
        """The name of the collection that the path names, or that of the default one."""
        return self.path.get("collection", DEFAULT_COLLECTION)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What a handler returns: a body, a stream or neither, and headers besides the standard ones.

    `media_type`: of the stream.
    """

    body: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stream: AsyncGenerator[bytes] | None = None
    media_type: str = "application/json"

    @classmethod
    async def streamed(
        cls, parts: AsyncGenerator[bytes], media_type: str, headers: Mapping[str, str] | None = None
    ) -> Self:
        """Return a response that streams the parts, of which it makes the first one here.

        What goes wrong until then is answered with its status, and a slot that it holds is held.
        """
        first = await anext(parts, b"")
        return cls(headers=headers or {}, stream=_joined(first, parts), media_type=media_type)


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for part in rest:
            yield part
