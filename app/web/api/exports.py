"""Handler of /collection/exports: items, changes and runs as a streamed file."""

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus

from app.core.enums import Scope
from app.core.errors import BadParameters
from app.maintenance import export
from app.orgs import exports
from app.store.orgs.exports import ORG_EXPORTS
from app.store.reports.exports import ExportRange
from app.web.api import auth, problems
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.problems import Problem
from app.web.api.schemas.exports import ExportQuery

REVALIDATE_SECONDS = 1.0  # seconds between checks that the token of an export is still valid
MEDIA_TYPES = tuple(media_type for _, media_type in exports.FORMATS.values())


async def export_rows(request: ApiRequest) -> ApiResponse:
    """Download items, changes or runs, oldest first; `after` continues after a row's `cursor`."""
    query: ExportQuery = request.query
    what: str = request.path["what"]
    kind = ORG_EXPORTS[what]
    encode, media_type = exports.FORMATS[query.format]
    _check(query, what)
    span = ExportRange(query.since, query.until)
    rows = exports.pages(request.context.pool, request.org_id, kind, span, query.after)
    if not request.context.exports.has_room(request.org_id):
        detail = "too many exports are under way"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=problems.RETRY_AFTER)
    parts = _counted(request, encode(kind.columns, rows))
    headers = {"content-disposition": f'attachment; filename="{what}.{query.format}"'}
    return await ApiResponse.streamed(parts, media_type, headers)


def _check(query: ExportQuery, what: str) -> None:
    if query.after is not None:
        try:
            ORG_EXPORTS[what].parse(query.after)
        except ValueError:
            raise problems.of_field("after", f"is not the cursor of a row of {what}") from None
    if query.format == "parquet":
        try:
            export.load_pyarrow()
        except BadParameters as error:
            raise problems.of_field("format", str(error)) from None


async def _counted(request: ApiRequest, parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    clock = asyncio.get_running_loop().time
    with request.context.exports.hold(request.org_id):
        checked = clock()
        async for part in parts:
            if clock() - checked >= REVALIDATE_SECONDS:
                await auth.revalidate(request)
                checked = clock()
            yield part


ENDPOINTS: tuple[Endpoint, ...] = (
    get(
        "/collection/exports/{what}",
        Scope.READ,
        export_rows,
        query=ExportQuery,
        stream=MEDIA_TYPES,
        errors=(410,),
    ),
)
