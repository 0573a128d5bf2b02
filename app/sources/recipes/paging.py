"""Requests of a recipe, page by page. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from app.core.errors import Schema, UnsafeAddress
from app.core.messages import RawPage, SourceRequest
from app.sources.addresses import origin, resolve, with_params
from app.sources.recipes import templates
from app.sources.recipes.enums import RecipeKind
from app.sources.recipes.model import Recipe
from app.sources.recipes.paging_blocks import ByCursor, ByLink, ByNext, ByOffset, ByPage
from app.sources.recipes.reading import PageReading

ACCEPT: Mapping[RecipeKind, str] = {
    RecipeKind.JSON: "application/json",
    RecipeKind.HTML: "text/html, application/xhtml+xml;q=0.9, */*;q=0.5",
    # Without "json": a source that accepts JSON treats any markup as an error page.
    RecipeKind.FEED: "application/rss+xml, application/atom+xml, application/xml;q=0.9, */*;q=0.8",
}
MAX_URL_LENGTH = 8_000
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^",;]*))?)*)')
_ATTRIBUTE = re.compile(r';\s*([\w*-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",;]*)))?')

Pairs = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class RecipeRequestBuilder:
    """Builds the requests of one partition.

    `values` fill the placeholders. `reader` identifies the recipe version that reads the pages.
    `since`: query parameters that carry the incremental cursor. `moved`: where the site redirected
    the first page, if it did.
    """

    recipe: Recipe
    values: Mapping[str, str]
    reader: str = ""
    since: tuple[tuple[str, str], ...] = field(default=())
    moved: str | None = None

    def first_request(self) -> SourceRequest:
        return self._request(self._first_page())

    def after_first_page(self, url: str) -> "RecipeRequestBuilder":
        """Return the builder that goes on from `url`, where the first page came from.

        A URL in which a secret is masked is not used; nor is another host, with a credential.
        """
        same = url == self.first_request().url or "***" in url
        if same or self.recipe.request.method != "GET" or origin(url) not in self._origins(url):
            return self
        return replace(self, moved=url)

    def next_request(
        self, number: int, seen: int, raw: RawPage, reading: PageReading
    ) -> SourceRequest | None:
        """Return the request after page `number`, or None if the page names no next page.

        `seen`: records read so far; by page or offset there is always a next page.
        Raises Schema if the site names a next page that is not a URL, and UnsafeAddress if that
        page is on another site.
        """
        paginate = self.recipe.paginate
        if isinstance(paginate, ByPage | ByOffset):
            position = seen if isinstance(paginate, ByOffset) else paginate.start + number
            return self._request([(paginate.param, position), *self._size()])
        if isinstance(paginate, ByCursor):
            cursor = [(paginate.param, reading.next_page), *self._size()]
            return None if reading.next_page is None else self._request(cursor)
        if isinstance(paginate, ByNext):
            return self._linked_request(reading.next_page, raw)
        link = next_link(raw.headers.get("link", "")) if isinstance(paginate, ByLink) else None
        return self._linked_request(link, raw)

    def _first_page(self) -> Pairs:
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

    def _request(self, paging: Pairs) -> SourceRequest:
        recipe = self.recipe
        spec = recipe.request
        in_body = isinstance(spec.json_, dict)
        params = [(name, _as_param(value)) for name, value in spec.params.items()]
        params = [(name, templates.fill(value, self.values)) for name, value in params]
        extra = [*self.since, *paging]
        if not in_body:
            params += [(name, _as_param(value)) for name, value in extra]
        body = None
        if spec.json_ is not None:
            content = templates.fill_json(spec.json_, self.values)
            body = msgspec.json.encode({**content, **dict(extra)} if in_body else content)
        url = with_params(self.moved or templates.fill_url(recipe.url, self.values), params)
        return replace(self._base_request(url), method=spec.method, body=body)

    def _linked_request(self, link: str | None, raw: RawPage) -> SourceRequest | None:
        if link is None:
            return None
        try:
            url = resolve(raw.url, link) or ""
            parts = urlsplit(url)
            own = self._origins(raw.url)
        except ValueError:
            raise Schema(f"the next page is {link[:80]!r}, which is not a URL") from None
        if not url or len(url) > MAX_URL_LENGTH:
            raise Schema(f"the next page is {link[:80]!r}, which is not a URL")
        if origin(url) not in own:
            raise UnsafeAddress(f"the next page is on another site, {parts.netloc[:80]}")
        return self._base_request(urlunsplit(parts._replace(fragment="")))

    def _origins(self, came_from: str) -> set[tuple[str, str, int | None]]:
        """Return where pages may be requested: at the recipe's origin, and where it moved.

        A site may redirect: its links lead to where it moved, or back. A credential goes to no
        other host than its own. Raises ValueError.
        """
        own, moved = {origin(self.recipe.url)}, origin(came_from)
        is_same_host = moved == ("https", urlsplit(self.recipe.url).hostname, 443)
        return own | {moved} if self.recipe.auth is None or is_same_host else own

    def _base_request(self, url: str) -> SourceRequest:
        recipe = self.recipe
        headers = {n: templates.fill(v, self.values) for n, v in recipe.http.headers.items()}
        # What a site answers may vary with them: with others, it is another page.
        own = f" {msgspec.json.encode(headers).decode()}" if headers else ""
        if recipe.request.json_ is not None:
            headers.setdefault("content-type", "application/json")
        return SourceRequest(
            url,
            headers=headers,
            accept=recipe.http.accept or ACCEPT[recipe.kind],
            retry_empty=recipe.retry.empty,
            robots=recipe.robots,
            read_only=recipe.request.read_only,
            parser_version=f"{self.reader}{own}",
        )


def request_identity(request: SourceRequest) -> tuple[str, bytes | None]:
    """Return what identifies a request: equal for a repeated one."""
    return request.url, request.body


def next_link(header: str) -> str | None:
    """Return the target with `rel="next"` of a Link header, or None (RFC 8288)."""
    for target, attributes in _LINK.findall(header[:20_000]):
        found = _ATTRIBUTE.findall(attributes)
        rel = next((quoted or bare for name, quoted, bare in found if name.lower() == "rel"), "")
        if "next" in rel.lower().split():
            return str(target).strip()
    return None


def _as_param(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
