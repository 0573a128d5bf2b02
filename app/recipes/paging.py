"""What to ask of a recipe's site, page by page. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from app.errors import Schema, Unsafe
from app.messages import Raw, Request
from app.recipes import templates
from app.recipes.model import ByCursor, ByLink, ByNext, ByOffset, ByPage, Recipe
from app.recipes.reading import Reading
from app.recipes.words import Kind

ACCEPT: Mapping[Kind, str] = {
    Kind.JSON: "application/json",
    Kind.HTML: "text/html, application/xhtml+xml;q=0.9, */*;q=0.5",
    # "json" in it would have any page of markup taken for an error.
    Kind.FEED: "application/rss+xml, application/atom+xml, application/xml;q=0.9, */*;q=0.8",
}
LONGEST_URL = 8_000
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*-]+(?:\s*=\s*(?:"[^"]*"|[^",;]*))?)*)')
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^",;\s]*))', re.IGNORECASE)

Pairs = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Asker:
    """Writes the requests of one partition. `values` fill the placeholders."""

    recipe: Recipe
    values: Mapping[str, str]
    reader: str = ""
    since: tuple[tuple[str, str], ...] = field(default=())

    def first(self) -> Request:
        """The first page."""
        return self._request(self._opening())

    def following(self, number: int, seen: int, raw: Raw, reading: Reading) -> Request | None:
        """What comes after page `number`, or None if that was the last. `seen`: records so far.

        Raises Schema or Unsafe if the site names something that cannot be asked for.
        """
        paginate = self.recipe.paginate
        if isinstance(paginate, ByPage | ByOffset):
            if not reading.records or (paginate.size and reading.records < paginate.size):
                return None
            at = seen if isinstance(paginate, ByOffset) else paginate.start + number
            return self._request([(paginate.param, at), *self._size()])
        if isinstance(paginate, ByCursor):
            following = [(paginate.param, reading.onward), *self._size()]
            return None if reading.onward is None else self._request(following)
        if isinstance(paginate, ByNext):
            return self._at(reading.onward, raw)
        linked_to = linked(raw.headers.get("link", "")) if isinstance(paginate, ByLink) else None
        return self._at(linked_to, raw)

    def _opening(self) -> Pairs:
        paginate = self.recipe.paginate
        if isinstance(paginate, ByPage):
            return [(paginate.param, paginate.start), *self._size()]
        if isinstance(paginate, ByOffset):
            return [(paginate.param, 0), *self._size()]
        return self._size() if isinstance(paginate, ByCursor) else []

    def _size(self) -> Pairs:
        paginate = self.recipe.paginate
        param, size = getattr(paginate, "size_param", None), getattr(paginate, "size", None)
        return [(param, size)] if param is not None and size is not None else []

    def _request(self, paging: Pairs) -> Request:
        recipe = self.recipe
        asked = recipe.request
        posted = isinstance(asked.json_, dict)
        params = [(name, _written(value)) for name, value in asked.params.items()]
        params = [(name, templates.filled(value, self.values)) for name, value in params]
        inside = [*self.since, *paging]
        if not posted:
            params += [(name, _written(value)) for name, value in inside]
        body = None
        if asked.json_ is not None:
            told = templates.filled_in(asked.json_, self.values)
            body = msgspec.json.encode({**told, **dict(inside)} if posted else told)
        url = with_params(templates.filled_url(recipe.url, self.values), params)
        return replace(self._blank(url), method=asked.method, body=body)

    def _at(self, written: str | None, raw: Raw) -> Request | None:
        if written is None:
            return None
        try:
            url = urljoin(raw.url, written)
            parts = urlsplit(url)
            there, here = _origin(url), _origin(self.recipe.url)
        except ValueError:
            raise Schema(f"the next page is {written[:80]!r}, which is no address") from None
        if parts.scheme not in ("http", "https") or len(url) > LONGEST_URL or not parts.hostname:
            raise Schema(f"the next page is {written[:80]!r}, which is no address")
        if there != here:
            raise Unsafe(f"the next page is at another site, {parts.netloc[:80]}")
        return self._blank(urlunsplit(parts._replace(fragment="")))

    def _blank(self, url: str) -> Request:
        recipe = self.recipe
        headers = {n: templates.filled(v, self.values) for n, v in recipe.http.headers.items()}
        if recipe.request.json_ is not None:
            headers.setdefault("content-type", "application/json")
        return Request(
            url,
            headers=headers,
            accept=recipe.http.accept or ACCEPT[recipe.kind],
            retry_empty=recipe.retry.empty,
            robots=recipe.robots,
            reader=self.reader,
        )


def identity(request: Request) -> tuple[str, bytes | None]:
    """What makes a request the same one again."""
    return request.url, request.body


def with_params(url: str, params: Sequence[tuple[str, str]]) -> str:
    """`url` with these parameters; those it had of the same names give way."""
    if not params:
        return url
    parts = urlsplit(url)
    names = {name for name, _ in params}
    kept = [(n, v) for n, v in parse_qsl(parts.query, keep_blank_values=True) if n not in names]
    return urlunsplit(parts._replace(query=urlencode([*kept, *params], quote_via=quote)))


def linked(header: str) -> str | None:
    """The address that a Link header calls `next` (RFC 8288)."""
    for target, told in _LINK.findall(header[:20_000]):
        rel = _REL.search(told)
        names = (rel[1] or rel[2] or "").lower().split() if rel else []
        if "next" in names:
            return str(target).strip()
    return None


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    known = {"http": 80, "https": 443}
    return parts.scheme, parts.hostname, parts.port or known.get(parts.scheme)
