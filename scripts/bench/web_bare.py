"""The yardstick: one Starlette route and nothing else. `uvicorn scripts.bench.web_bare:app`"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def bare(_: Request) -> JSONResponse:
    """What every route costs at least."""
    return JSONResponse({"status": "healthy"})


app = Starlette(routes=[Route("/health/scheduler", bare)])
