"""What an answer means: data, a reason why not, or another address. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus

import httpx

from app.errors import Auth, Blocked, Failure, HttpStatus, RateLimited, Schema, Unsafe
from app.fetch.retry import retry_after
from app.fetch.urls import is_secret, public, same_origin
from app.messages import NO_HEADERS, Request

EXCERPT = 200
_LOOKED_AT = 1_000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_RETRIED = frozenset({408, 425})
_CONDITIONS = frozenset({"if-none-match", "if-modified-since"})
_CHALLENGES = ("x-amzn-waf-action", "cf-mitigated")
_BY_STATUS: dict[int, type[Failure]] = {401: Auth, 403: Blocked, 429: RateLimited}
_TOLD_SECRET = re.compile(
    r"(token|secret|passw(?:or)?d|api.?key|signature|authorization|cookie)(\W{0,3}[:=]\W{0,3})"
    r"(?:bearer |basic )?[^\s\"'&,;}<]+|(bearer|basic)( +)[^\s\"'&,;}<]+",
    re.IGNORECASE,
)
_MARKUP = re.compile(rb"<(!doctype|html|head|body|script|meta|title|!--)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `headers` has lower-case names, `url` still has its secrets."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


def fault(answer: Answer, request: Request, now: datetime) -> Failure | None:
    """Why `answer` is not what `request` asked for, or None. `now` is aware: Retry-After dates."""
    if any(name in answer.headers for name in _CHALLENGES):
        return _of(Blocked, answer, f"a challenge instead of data (HTTP {answer.status})")
    if answer.status == HTTPStatus.NOT_MODIFIED:
        return None if _conditional(request) else _of(Schema, answer, "HTTP 304 nobody asked for")
    if not httpx.codes.is_success(answer.status):
        return _refusal(answer, request, now)
    if not answer.body or answer.body.isspace():
        return _emptiness(answer, request)
    return _disguise(answer, request) if "json" in request.accept else None


def next_hop(request: Request, answer: Answer) -> Request | None:
    """What to ask next if `answer` points elsewhere. Headers of ours stay within their origin.

    Raises Unsafe if the new address cannot be read, or would be told a body meant for another.
    """
    location = answer.headers.get("location")
    if answer.status not in _REDIRECTS or not location:
        return None
    here = httpx.URL(answer.url)
    try:
        there = here.join(location).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise _of(Unsafe, answer, "a redirect to an address that cannot be read") from error
    home = same_origin(here, there)
    kept = answer.status in _SAME_METHOD or request.method == "HEAD"
    if kept and request.body and not home:
        raise _of(Unsafe, answer, "a redirect would tell our body to another origin")
    return replace(
        request,
        url=str(there),
        params=(),
        headers=request.headers if home else NO_HEADERS,
        method=request.method if kept else "GET",
        body=request.body if kept else None,
    )


def _conditional(request: Request) -> bool:
    return any(name.lower() in _CONDITIONS for name in request.headers)


def _refusal(answer: Answer, request: Request, now: datetime) -> Failure:
    kind = _BY_STATUS.get(answer.status, HttpStatus)
    excerpt = _excerpt(answer, request)
    failure = _of(kind, answer, f"HTTP {answer.status}" + (f": {excerpt}" if excerpt else ""))
    if kind is HttpStatus:
        failure.retry = answer.status in _RETRIED or httpx.codes.is_server_error(answer.status)
    if failure.retry:
        failure.retry_in = retry_after(answer.headers.get("retry-after"), now)
    return failure


def _emptiness(answer: Answer, request: Request) -> Failure | None:
    if answer.status == HTTPStatus.ACCEPTED:
        return _of(Blocked, answer, "HTTP 202 without a body")
    if request.retry_empty:
        empty = _of(Schema, answer, f"HTTP {answer.status} with an empty body")
        empty.retry = True
        return empty
    return None


def _disguise(answer: Answer, request: Request) -> Failure | None:
    media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if "protobuf" in media:
        return _of(Schema, answer, f"{media} where {request.accept} was asked for")
    opening = answer.body[:_LOOKED_AT].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if _MARKUP.match(opening) or (media == "text/html" and opening.startswith(b"<")):
        return _of(Blocked, answer, f"HTML where {request.accept} was asked for")
    return None


def _of(kind: type[Failure], answer: Answer, message: str) -> Failure:
    return kind(message, status=answer.status, url=public(answer.url))


def _excerpt(answer: Answer, request: Request) -> str:
    text = answer.body[:_LOOKED_AT].decode("utf-8", "replace")
    for secret in _ours(request):
        text = text.replace(secret, "***")
    text = _TOLD_SECRET.sub(r"\1\2\3\4***", text)
    readable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(readable.split())[:EXCERPT]


def _ours(request: Request) -> list[str]:
    told = [value for name, value in request.headers.items() if is_secret(name)]
    words = [word for value in told for word in value.split()]
    asked = [value for name, value in request.params if is_secret(name)]
    return [secret for secret in (*words, *asked) if secret]
