"""Routes of the pages that show what was collected."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from app.web.dashboard.data import items, news, odds, raw_pages, rejected, sources, what_if
from app.web.dashboard.data.reading import data_page
from app.web.dashboard.session_auth import (
    NO_STORE,
    SessionUser,
    require_operate,
    require_operator,
    require_session,
)


async def first_page(_: Request, user: SessionUser) -> Response:
    """A redirect to the first kind of data that the user may see."""
    return RedirectResponse("/data/odds" if user.org_id is None else "/data/items", 303, NO_STORE)


def data_routes() -> list[BaseRoute]:
    """The routes of all data pages. Odds and news belong to the operator."""
    return [
        Route("/data", require_session(first_page)),
        Route("/data/odds", require_operator(data_page(odds.matches))),
        Route("/data/matches/{match:path}", require_operator(data_page(odds.match))),
        Route("/data/articles", require_operator(data_page(news.articles))),
        Route("/data/stories", require_operator(data_page(news.stories))),
        Route("/data/stories/{story_id:int}", require_operator(data_page(news.story))),
        Route("/data/items", require_session(data_page(items.sources))),
        # The name of a source may have a slash: `run.store` takes any.
        Route("/data/item/{item_id:int}/{source:path}", require_session(data_page(items.item))),
        Route("/data/items/{source:path}", require_session(data_page(items.items))),
        Route("/data/rejected", require_session(data_page(rejected.rejected))),
        Route("/data/sources/{source:path}", require_session(data_page(sources.source))),
        Route("/data/pages/{page_id:int}", require_session(data_page(raw_pages.raw_page))),
        Route("/data/pages/{page_id:int}/body", require_session(data_page(raw_pages.raw_body))),
        Route(
            "/data/pages/{page_id:int}/replay", require_operate(what_if.replay), methods=["POST"]
        ),
        Route("/runs/{run_id:uuid}/pages", require_session(data_page(raw_pages.of_run))),
    ]
