"""Stand-in for AskNews: bearer tokens, numbered error codes, offset paging, rate limits."""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

import msgspec

from scripts.standin.news import News, matching
from scripts.standin.wire import Reply, Request, json_reply
from scripts.standin.world import View

NAME = "asknews"
_MOST_ARTICLES = 101
_FREE_ARTICLES = 10
_DETAIL = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    429: "Rate limit exceeded",
    500: "Internal server error",
    503: "Service unavailable",
}
_CONCURRENCY = 429_001
_BASE64_FAULTS = (binascii.Error, UnicodeDecodeError)
Json = dict[str, Any]


class Access(msgspec.Struct, frozen=True):
    """Credentials and limits. `rate` is in calls per second, 0 for no limit.

    Up to `burst` calls may arrive at once after a pause, and `concurrency` may be open at a time, 0
    for no limit. `token_seconds` is the lifetime of an OAuth2 token.
    """

    key: str = "standin-key"
    client_id: str = "standin-client"
    client_secret: str = "standin-secret"  # noqa: S105  # of the stand-in only
    plan: Literal["free", "paid"] = "paid"
    rate: float = 0.0
    burst: int = 1
    concurrency: int = 0
    token_seconds: int = 3600


class AskNews:
    """Serves the paths below `/asknews`. `clock` is monotonic, in seconds."""

    def __init__(self, news: News, access: Access, clock: Callable[[], float]) -> None:
        self._news = news
        self._access = access
        self._clock = clock
        self._tokens: dict[str, tuple[float, frozenset[str]]] = {}
        self._issued = 0
        self._level = float(access.burst)
        self._filled_at = clock()
        self._known: dict[str, str] = {}
        self.busy = 0

    def answer(self, path: str, request: Request, view: View) -> Reply:
        """Answer a request; `path` is the part after the site's prefix."""
        if request.method == "POST" and path == "/oauth2/token":
            return self._token(request)
        if path.rstrip("/") in {"", "/v1"}:
            return json_reply({"app": "AskNews API", "version": "0.24.66"})
        scope = {"news": "news", "stories": "stories"}.get((*path.split("/"), "", "")[2], "profile")
        return self._refused(request, path, scope) or self._routed(path, request, view)

    def failed(self) -> Reply:
        """Return an error in the body of an HTTP 200; the real site is not known to do this."""
        return json_reply({"code": 500_000, "detail": _DETAIL[500]})

    def revoke(self) -> None:
        """Revoke every OAuth2 token issued so far."""
        self._tokens.clear()

    def _refused(self, request: Request, path: str, scope: str) -> Reply | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        scopes = self._scopes(token) if kind.lower() == "bearer" else None
        if scopes is None:
            return error(401)
        if scope not in scopes:
            return error(403)
        if path == "/v1/profiles/me/limits":
            return None
        access = self._access
        # `busy` includes the present request.
        if access.concurrency and self.busy > access.concurrency:
            return error(429, code=_CONCURRENCY)
        return None if self._take_call() else error(429)

    def _scopes(self, token: str) -> frozenset[str] | None:
        if token == self._access.key:
            return frozenset({"news", "stories", "profile"})
        until, scopes = self._tokens.get(token, (0.0, frozenset[str]()))
        return scopes if token in self._tokens and self._clock() < until else None

    def _take_call(self) -> bool:
        if not self._access.rate:
            return True
        self._refill()
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def _refill(self) -> None:
        now, access = self._clock(), self._access
        earned = (now - self._filled_at) * access.rate
        self._level, self._filled_at = min(float(access.burst), self._level + earned), now

    def _token(self, request: Request) -> Reply:
        form = parse_qs(request.body.decode("utf-8", "replace"))
        if form.get("grant_type") != ["client_credentials"]:
            return json_reply({"error": "unsupported_grant_type"}, 400)
        if _basic(request) != (self._access.client_id, self._access.client_secret):
            wrong = {"error": "invalid_client", "error_description": "Client authentication failed"}
            return json_reply(wrong, 401)
        self._issued += 1
        token, scope = f"standin-token-{self._issued}", form.get("scope", [""])[0]
        scopes = frozenset(scope.split()) | {"profile"}
        self._tokens[token] = (self._clock() + self._access.token_seconds, scopes)
        return json_reply(
            {
                "access_token": token,
                "scope": scope,
                "token_type": "bearer",
                "expires_in": self._access.token_seconds,
            }
        )

    def _routed(self, path: str, request: Request, view: View) -> Reply:
        if path == "/v1/profiles/me/limits":
            return self._limits()
        if path == "/v1/news/search":
            return self._search(request, view)
        if path == "/v1/stories":
            return self._stories(request, view)
        if path.startswith("/v1/stories/"):
            return self._story(path.removeprefix("/v1/stories/"), view)
        return error(404)

    def _limits(self) -> Reply:
        self._refill()
        access = self._access
        wait = (1 - self._level) / access.rate if access.rate and self._level < 1 else None
        return json_reply(
            {
                "request_rate": access.rate or 1000.0,
                "request_rate_capacity": access.burst if access.rate else 1000,
                "request_rate_remaining": int(self._level) if access.rate else 1000,
                "retry_after": wait,
                "concurrency_limit": access.concurrency or 1000,
                "concurrency_remaining": max(0, (access.concurrency or 1001) - self.busy),
            }
        )

    def _search(self, request: Request, view: View) -> Reply:
        asked = request.params()
        numbers = _numbers(asked, n_articles=10, offset=0, start_timestamp=0, end_timestamp=1 << 62)
        if isinstance(numbers, Reply):
            return numbers
        size, offset, since, until = numbers
        if not 1 <= size <= _MOST_ARTICLES:
            return _unprocessable("n_articles", f"Input should be from 1 to {_MOST_ARTICLES}")
        size = min(size, _FREE_ARTICLES) if self._access.plan == "free" else size
        articles = self._news.articles(asked.get("query", ""), view.version)
        found = [one for one in articles if since <= _instant(one["pub_date"]) <= until]
        page = found[offset : offset + size]
        end = offset + size
        as_string = asked.get("return_type") == "string"
        shown = page[::2] if view.partial else page
        return json_reply(
            {
                "as_dicts": None if as_string else shown,
                "as_string": "\n".join(one["summary"] for one in page) if as_string else None,
                "offset": end if end < len(found) else None,
            }
        )

    def _stories(self, request: Request, view: View) -> Reply:
        asked = request.params()
        numbers = _numbers(asked, limit=10, offset=0, reddit=0, max_updates=2)
        if isinstance(numbers, Reply):
            return numbers
        limit, offset, reddit, max_updates = numbers
        if not 1 <= limit <= 100:  # noqa: PLR2004  # the limit is not stated anywhere
            return _unprocessable("limit", "Input should be from 1 to 100")
        if reddit and self._access.plan == "free":
            return error(403, code=403_011)
        stories = self._news.stories(asked.get("query", ""), view.version)
        wanted = set(request.every("categories"))
        if wanted:
            stories = [story for story in stories if wanted & set(story["categories"])]
        page = stories[offset : offset + limit]
        for story in page:
            self._known[story["uuid"]] = asked.get("query", "")
            if asked.get("expand_updates", "").lower() == "true":
                story["updates"] = self._news.updates(story)[:max_updates]
        shown = page[::2] if view.partial else page
        return json_reply({"stories": shown, "offset": offset + len(page)})

    def _story(self, uuid: str, view: View) -> Reply:
        for query in dict.fromkeys(("", *self._known.values())):
            for story in matching(self._news.stories(query, view.version), uuid):
                story["updates"] = self._news.updates(story)[:10]
                return json_reply(story)
        return error(404)


def error(status: int, *, code: int | None = None, detail: str | None = None) -> Reply:
    """Return an AskNews error; `code` defaults to the status times 1000."""
    body: Json = {
        "code": status * 1000 if code is None else code,
        "detail": detail or _DETAIL.get(status, "Error"),
    }
    return json_reply(body, status)


def _unprocessable(name: str, message: str) -> Reply:
    fault: Json = {"loc": ["query", name], "msg": message, "type": "value_error"}
    return json_reply({"code": 422_000, "detail": [fault]}, 422)


def _numbers(asked: dict[str, str], **defaults: int) -> list[int] | Reply:
    """Return the named parameters as integers, in order, or an error response if invalid."""
    numbers: list[int] = []
    for name, default in defaults.items():
        text = asked.get(name, str(default))
        if not text.removeprefix("-").isdecimal() or int(text) < 0:
            return _unprocessable(name, "Input should be a valid integer")
        numbers.append(int(text))
    return numbers


def _instant(published: str) -> float:
    return datetime.fromisoformat(published).timestamp()


def _basic(request: Request) -> tuple[str, str] | None:
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except _BASE64_FAULTS:
        return None
    return unquote(name), unquote(secret)
