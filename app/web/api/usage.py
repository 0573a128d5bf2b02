"""Handler of /collection/usage."""

from dataclasses import asdict

from app.orgs import usage
from app.web.api import schemas
from app.web.api.context import ApiRequest, ApiResponse


async def read_usage(request: ApiRequest) -> ApiResponse:
    """Read the limits, what is used of them, and the runs, pages, bytes and items by month."""
    context = request.context
    report = await usage.report(context.pool, context.config, request.org_id, request.now)
    return ApiResponse(schemas.UsageBody.model_validate(asdict(report)))
