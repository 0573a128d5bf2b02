"""Handlers of the change feed and of an item's history."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from http import HTTPStatus

from app.core.enums import Scope
from app.core.errors import Gone, Unauthorized
from app.store.content import changes
from app.store.content.changes import Change, FeedPosition
from app.store.db import UNAVAILABLE
from app.web.api import auth, cursor, problems
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.problems import RETRY_AFTER, Problem
from app.web.api.schemas.changes import (
    ChangeBody,
    ChangeFeed,
    ChangesQuery,
    ChangeStreamQuery,
    History,
    HistoryQuery,
)

EVENT_STREAM = "text/event-stream"
POLL_SECONDS = 0.5  # seconds between two reads of a request that waits
STREAM_PAGE = 200  # changes per read of a stream
KEEP_ALIVE_POLLS = 30  # polls between comments, which detect a closed connection
SESSION_POLLS = 20  # polls without a change between checks that the token is still valid
MAX_STREAM_POLLS = 1200  # polls until a stream ends and the client reconnects


async def list_changes(request: ApiRequest) -> ApiResponse:
    """List the changes after a place in the feed, oldest first; with `wait`, wait for one."""
    query: ChangesQuery = request.query
    reader = _Reader(request, parse_place(query.after), query.limit, _kinds(query))
    if query.wait:
        _check_room(request)
    found = await reader.read()
    if not found and query.wait:
        with _counted(request):
            deadline = asyncio.get_running_loop().time() + query.wait
            while not found and asyncio.get_running_loop().time() < deadline:
                if await request.context.is_stopping_within(POLL_SECONDS):
                    break
                found = await reader.read()
        await auth.revalidate(request)
    body = ChangeFeed(changes=[_body(one) for one in found], next=str(reader.place))
    return ApiResponse(body)


async def stream_changes(request: ApiRequest) -> ApiResponse:
    """Send changes as server-sent events as they happen, from a place in the feed on."""
    query: ChangeStreamQuery = request.query
    after = parse_place(request.last_event_id or query.after)
    reader = _Reader(request, after, STREAM_PAGE, _kinds(query))
    return await ApiResponse.streamed(_events(request, reader), EVENT_STREAM)


async def item_history(request: ApiRequest) -> ApiResponse:
    """List what changed in an item, newest first: each field that moved, from what and to what."""
    query: HistoryQuery = request.query
    before = cursor.decode_number(query.cursor)
    async with request.transaction() as connection:
        rows = await changes.history(
            connection,
            request.org_id,
            request.path["key"],
            query.limit + 1,
            source=query.source,
            before=before,
        )
    page, more = rows[: query.limit], len(rows) > query.limit
    return ApiResponse(
        History(
            changes=[_body(one) for one in page],
            next_cursor=cursor.encode(page[-1].id) if more else None,
        )
    )


@dataclass(slots=True)
class _Reader:
    """Reads the feed of the request's organisation page by page. `place`: where it goes on."""

    request: ApiRequest
    place: FeedPosition
    limit: int
    kinds: list[str] | None

    async def read(self) -> list[Change]:
        async with self.request.transaction() as connection:
            found, self.place = await changes.feed(
                connection, self.request.org_id, self.place, self.limit, self.kinds
            )
        return found


async def _events(request: ApiRequest, reader: _Reader) -> AsyncGenerator[bytes]:
    with _counted(request):
        found = await reader.read()
        yield b"retry: 2000\n\n"
        for poll in range(1, MAX_STREAM_POLLS):
            for one in found:
                yield _event(one)
            if poll % KEEP_ALIVE_POLLS == 0:
                # A client that reconnects goes on here, also if no change was for it.
                yield f": keep-alive\nid: {reader.place}\n\n".encode()
            if len(found) < reader.limit and await request.context.is_stopping_within(POLL_SECONDS):
                return
            try:
                found = await reader.read()
                if found or poll % SESSION_POLLS == 0:
                    await auth.revalidate(request)
            except (Gone, Unauthorized, *UNAVAILABLE):
                return  # the client reconnects, and gets the answer then


def _event(one: Change) -> bytes:
    return f"id: {one.place}\nevent: {one.kind}\ndata: {_body(one).model_dump_json()}\n\n".encode()


@contextlib.contextmanager
def _counted(request: ApiRequest) -> Generator[None]:
    _check_room(request)
    with request.context.streams.hold(request.org_id):
        yield


def _check_room(request: ApiRequest) -> None:
    if not request.context.streams.has_room(request.org_id):
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "too many clients wait for changes", headers=RETRY_AFTER
        )


def parse_place(text: str) -> FeedPosition:
    """Return a place in the feed. Raises Problem (422)."""
    position, _, number = text.partition(".")
    try:
        return FeedPosition(changes.parse_id(position), changes.parse_id(number or "0"))
    except ValueError:
        raise problems.of_field("after", "is not the next of an earlier page, nor 0") from None


def _kinds(query: ChangeStreamQuery) -> list[str] | None:
    return None if query.kind is None else [query.kind.value]


def _body(one: Change) -> ChangeBody:
    return ChangeBody(
        id=str(one.place),
        at=one.at,
        kind=one.kind,  # pyright: ignore[reportArgumentType] - checked by the model
        source=one.source,
        key=one.key,
        run_id=one.run_id,
        fields=one.fields,
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    get("/collection/items/{key}/history", Scope.READ, item_history, History, query=HistoryQuery),
    get(
        "/collection/changes",
        Scope.READ,
        list_changes,
        ChangeFeed,
        query=ChangesQuery,
        errors=(410,),
        seconds=45,
    ),
    get(
        "/collection/changes/stream",
        Scope.READ,
        stream_changes,
        query=ChangeStreamQuery,
        stream=(EVENT_STREAM,),
        errors=(410,),
    ),
)
