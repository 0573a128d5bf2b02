"""The API endpoints of the operator's odds and news."""

from app.core.enums import Scope
from app.web.api import data_schemas, news, odds
from app.web.api.endpoint import Endpoint

ARTICLES, STORIES = "/news/articles", "/news/stories"

DATA_ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        odds.MATCHES,
        Scope.READ,
        odds.list_matches,
        data_schemas.Matches,
        query=data_schemas.MatchesQuery,
        stream=(odds.CSV,),
        operator=True,
        data=True,
    ),
    Endpoint(
        "GET",
        "/odds/best",
        Scope.READ,
        odds.list_best,
        data_schemas.BestMatches,
        query=data_schemas.BestQuery,
        operator=True,
        data=True,
    ),
    Endpoint(
        "GET",
        f"{odds.MATCHES}/{{match}}",
        Scope.READ,
        odds.read_match,
        data_schemas.MatchBody,
        operator=True,
        data=True,
    ),
    Endpoint(
        "GET",
        f"{odds.MATCHES}/{{match}}/history",
        Scope.READ,
        odds.price_history,
        data_schemas.PriceHistory,
        query=data_schemas.PriceQuery,
        operator=True,
        data=True,
    ),
    Endpoint(
        "GET",
        ARTICLES,
        Scope.READ,
        news.list_articles,
        data_schemas.Articles,
        query=data_schemas.NewsQuery,
        operator=True,
        data=True,
    ),
    Endpoint(
        "GET",
        STORIES,
        Scope.READ,
        news.list_stories,
        data_schemas.Stories,
        query=data_schemas.NewsQuery,
        operator=True,
        data=True,
    ),
    Endpoint(
        "GET",
        f"{STORIES}/{{story}}",
        Scope.READ,
        news.read_story,
        data_schemas.StoryBody,
        operator=True,
        data=True,
    ),
)
