"""Classification of HTTP responses: data, a failure, or a redirect. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from app.core.errors import Auth, Blocked, Failure, HttpStatus, RateLimited, Schema, UnsafeAddress
from app.core.messages import NO_HEADERS, SourceRequest
from app.fetch.retry import retry_after
from app.fetch.urls import is_secret, mask, public_url, same_origin, secret_forms

MAX_EXCERPT = 200
_INSPECTED = 1_000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_RETRIED = frozenset({408, 425})
_CONDITIONS = frozenset({"if-none-match", "if-modified-since"})
_CHALLENGES = ("x-amzn-waf-action", "cf-mitigated")
_BY_STATUS: dict[int, type[Failure]] = {401: Auth, 403: Blocked, 429: RateLimited}
_QUOTED_SECRET = re.compile(
    r"(token|secret|passw(?:or)?d|api.?key|signature|authorization|cookie)(\W{0,3}[:=]\W{0,3})"
    r"(?:bearer |basic )?[^\s\"'&,;}<]+|(bearer|basic)( +)[^\s\"'&,;}<]+",
    re.IGNORECASE,
)
COOKIE_LOOP = "a cookie wall: the site sets a cookie and redirects until it is sent back"
_RANGE = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")
_SHORT_PAGE = 8_000  # bytes; a page with data is longer
_LINKS_OF_A_WALL = 5
_ASKS_FOR_COOKIES = re.compile(
    rb"cookies\s+(?:are|must\s+be|need\s+to\s+be|have\s+to\s+be)\s+(?:enabled|required|turned\s+on)"
    rb"|(?:enable|accept|allow|turn\s+on)\s+(?:all\s+|your\s+|browser\s+|the\s+use\s+of\s+)?cookies",
    re.IGNORECASE,
)
_SETS_COOKIE = re.compile(rb"document\.cookie\s*=")
_LOADS_AGAIN = re.compile(
    rb"location(?:\.href)?\s*=|location\.(?:reload|replace|assign)\(|http-equiv\s*=\s*.?refresh",
    re.IGNORECASE,
)
_CONSENT_HOST = re.compile(r"^(?:consent|guce|cookiewall|cmp|privacy-gate)\.", re.IGNORECASE)
_MARKUP = re.compile(rb"<(!doctype|html|head|body|script|meta|title|!--)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FetchedResponse:
    """One HTTP response. `headers` has lower-case names; secrets in `url` are not masked."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


def failure_of(answer: FetchedResponse, request: SourceRequest, now: datetime) -> Failure | None:
    """The failure that `answer` stands for, or None. `now` is aware; it dates Retry-After."""
    if any(name in answer.headers for name in _CHALLENGES):
        return _failure(Blocked, answer, f"a challenge instead of data (HTTP {answer.status})")
    if answer.status == HTTPStatus.NOT_MODIFIED:
        return (
            None
            if _is_conditional(request)
            else _failure(Schema, answer, "HTTP 304 to an unconditional request")
        )
    if not httpx.codes.is_success(answer.status):
        return _status_failure(answer, request, now)
    return _content_failure(answer, request)


def _content_failure(answer: FetchedResponse, request: SourceRequest) -> Failure | None:
    """The failure of a successful response that is not the page requested, or None."""
    if answer.status == HTTPStatus.PARTIAL_CONTENT and not _is_whole(answer):
        stated = answer.headers.get("content-range", "no content-range")[:60]
        return _failure(Schema, answer, f"HTTP 206: a part of the page ({stated})")
    if not answer.body or answer.body.isspace():
        return _empty_body_failure(answer, request)
    wall = _cookie_wall(answer, request)
    if wall is not None:
        return _failure(Blocked, answer, f"a cookie wall: {wall}")
    return _wrong_media_failure(answer, request) if "json" in request.accept else None


def redirected_request(request: SourceRequest, answer: FetchedResponse) -> SourceRequest | None:
    """The request that follows a redirect; None if `answer` is not one.

    Headers of the request are dropped when the origin changes. Raises UnsafeAddress if the
    location is not a valid URL, or if the request's body would be sent to another origin.
    """
    location = answer.headers.get("location")
    if answer.status not in _REDIRECTS or not location:
        return None
    base = httpx.URL(answer.url)
    try:
        target = base.join(location).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise _failure(UnsafeAddress, answer, "a redirect to an invalid URL") from error
    same = same_origin(base, target)
    kept = answer.status in _SAME_METHOD or request.method == "HEAD"
    if kept and request.body and not same:
        raise _failure(
            UnsafeAddress, answer, "a redirect would send the request body to another origin"
        )
    return replace(
        request,
        url=str(target),
        params=(),
        headers=request.headers if same else NO_HEADERS,
        method=request.method if kept else "GET",
        body=request.body if kept else None,
    )


def _cookie_wall(answer: FetchedResponse, request: SourceRequest) -> str | None:
    """What makes a page a cookie wall; None for any other page."""
    host = urlsplit(answer.url).hostname or ""
    if _CONSENT_HOST.match(host) and urlsplit(request.url).hostname != host:
        return f"the site redirects to {host} for consent"
    is_page = _MARKUP.match(answer.body[:_INSPECTED].lstrip(b"\xef\xbb\xbf \t\r\n")) is not None
    if not is_page or len(answer.body) > _SHORT_PAGE:
        return None
    if _SETS_COOKIE.search(answer.body) and _LOADS_AGAIN.search(answer.body):
        return "a script sets a cookie and loads the page again"
    links = answer.body.lower().count(b"<a ")
    if _ASKS_FOR_COOKIES.search(answer.body) and links <= _LINKS_OF_A_WALL:
        return "the page asks for cookies"
    return None


def _is_whole(answer: FetchedResponse) -> bool:
    """Whether the content-range of a response covers the whole page, as no part was requested."""
    said = _RANGE.fullmatch(answer.headers.get("content-range", "").strip())
    return said is not None and int(said[1]) + 1 == int(said[2])


def _is_conditional(request: SourceRequest) -> bool:
    return any(name.lower() in _CONDITIONS for name in request.headers)


def _status_failure(answer: FetchedResponse, request: SourceRequest, now: datetime) -> Failure:
    kind = _BY_STATUS.get(answer.status, HttpStatus)
    wall = _cookie_wall(answer, request) if kind is Blocked else None
    if wall is not None:
        return _failure(Blocked, answer, f"HTTP {answer.status}: a cookie wall: {wall}")
    excerpt = _excerpt(answer, request)
    failure = _failure(kind, answer, f"HTTP {answer.status}" + (f": {excerpt}" if excerpt else ""))
    if kind is HttpStatus:
        failure.retry = answer.status in _RETRIED or httpx.codes.is_server_error(answer.status)
    if failure.retry:
        failure.retry_in = retry_after(answer.headers.get("retry-after"), now)
    return failure


def _empty_body_failure(answer: FetchedResponse, request: SourceRequest) -> Failure | None:
    if answer.status == HTTPStatus.ACCEPTED:
        return _failure(Blocked, answer, "HTTP 202 without a body")
    if request.retry_empty:
        empty = _failure(Schema, answer, f"HTTP {answer.status} with an empty body")
        empty.retry = True
        return empty
    return None


def _wrong_media_failure(answer: FetchedResponse, request: SourceRequest) -> Failure | None:
    media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if "protobuf" in media:
        return _failure(Schema, answer, f"{media} instead of the requested {request.accept}")
    opening = answer.body[:_INSPECTED].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if _MARKUP.match(opening) or (media == "text/html" and opening.startswith(b"<")):
        return _failure(Blocked, answer, f"HTML instead of the requested {request.accept}")
    return None


def _failure(kind: type[Failure], answer: FetchedResponse, message: str) -> Failure:
    return kind(message, status=answer.status, url=public_url(answer.url))


def _excerpt(answer: FetchedResponse, request: SourceRequest) -> str:
    text = answer.body[:_INSPECTED].decode("utf-8", "replace")
    text = mask(text, secret_forms(sent_secrets(request)))
    text = _QUOTED_SECRET.sub(r"\1\2\3\4***", text)
    readable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(readable.split())[:MAX_EXCERPT]


def sent_secrets(request: SourceRequest) -> tuple[str, ...]:
    """The secrets that the request carries: those stated, and those of its headers and query."""
    headers = [value for name, value in request.headers.items() if is_secret(name)]
    # `Bearer TOKEN` and `Basic PAIR`: the first word is no secret.
    tokens = [token for value in headers for token in (value.split()[1:] or [value])]
    params = [value for name, value in request.params if is_secret(name)]
    return (*request.secrets, *tokens, *params)
