"""The baseline of the web benchmark: one Starlette route. `uvicorn scripts.bench.web_bare:app`"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def bare(_: Request) -> JSONResponse:
    """Return a constant JSON response."""
    return JSONResponse({"status": "healthy"})


app = Starlette(routes=[Route("/health/scheduler", bare)])
