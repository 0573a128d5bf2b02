"""Handler of /collection/usage."""

from app.core.enums import Scope
from app.orgs import usage
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.schemas.usage import UsageBody


async def read_usage(request: ApiRequest) -> ApiResponse:
    """Read the limits, what is used of them, and the runs, pages, bytes and items by month."""
    context = request.context
    report = await usage.report(context.pool, context.config, request.org_id, request.now)
    return ApiResponse(UsageBody.model_validate(report))


ENDPOINTS: tuple[Endpoint, ...] = (get("/collection/usage", Scope.READ, read_usage, UsageBody),)
