"""Proposal of a working recipe from one fetched page: feed, JSON or HTML. Pure."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from app.authoring import html_draft, json_draft
from app.authoring.draft import RecipeDraft, source_name, to_toml
from app.core.errors import BadRecipe, Failure, Schema
from app.core.messages import Partition, RawPage, SourceRequest
from app.fetch.urls import MAX_SHOWN_LENGTH
from app.sources.feeds import reading as feeds
from app.sources.feeds.tree import resolve_url
from app.sources.recipes.jsonpages import decode
from app.sources.recipes.load import load
from app.sources.recipes.reading import RecipeReader, RecipeRow
from app.sources.recipes.source import SINGLE_PARTITION, RecipeSource


def propose_recipe(raw: RawPage, url: str, following: RawPage | None = None) -> str:
    """Return the text of a recipe for the page at `url`.

    `following`: the page after it, if it is known; the recipe must read that too.
    Raises Schema if the page is neither a feed, nor JSON or HTML with a list of records.
    """
    address, moved = _moved(raw, url)
    draft = _feed(raw, address) or _json(raw, address, following) or _html(raw, address)
    if draft is None:
        kind = raw.headers.get("content-type", "unknown content type").partition(";")[0]
        found = html_draft.hints(raw.body, raw.headers.get("content-type"))
        hint = " ".join(found) or "it has no elements that repeat"
        offered = _feed_urls(raw)
        if offered:
            hint = f"it links to a feed: {offered[0]}"
        if "json" in kind:
            hint = "write a recipe by hand: extract.records can be any JMESPath, such as values(@)"
        raise Schema(f"found no list of records ({kind}, {len(raw.body)} bytes); {hint}")
    draft = replace(draft, remarks=(*draft.remarks, *moved))
    text = to_toml(draft)
    _check(text, raw)
    if following is not None:
        _check_next(text, raw, following)
    return text


def next_request(text: str, raw: RawPage) -> SourceRequest | None:
    """Return the request for the page after `raw` by a proposed recipe, or None without one."""
    pages = RecipeSource(load(text)).pages(Partition(SINGLE_PARTITION))
    next(pages)
    try:
        return pages.send(raw)
    except (StopIteration, Failure):
        return None


def without_paging(text: str, reason: str) -> str:
    """Return a proposed recipe without [paginate], which did not work, with a remark that says so.

    `reason`: what happened.
    """
    said = "".join(c for c in reason if c.isprintable())[:150]
    before, _, rest = text.partition("[paginate]\n")
    after = rest.partition("\n\n")[2]
    return f"# Further pages could not be read ({said}); see [paginate].\n{before}{after}"


def _moved(raw: RawPage, url: str) -> tuple[str, tuple[str, ...]]:
    """The address to propose: where the page came from, if it moved; and a remark that says so."""
    before, after = urlsplit(url), urlsplit(raw.url)
    same = (before.netloc.lower(), before.path or "/") == (after.netloc.lower(), after.path or "/")
    is_shown_in_full = "***" not in raw.url and len(raw.url) < MAX_SHOWN_LENGTH
    if (same and before.scheme == after.scheme) or not is_shown_in_full:
        return url, ()
    return raw.url, (f"The address redirects; it was {''.join(filter(str.isprintable, url))}",)


def _check_next(text: str, raw: RawPage, following: RawPage) -> None:
    keys, keys_of_next = ({row.key for row in _check(text, page)} for page in (raw, following))
    if not keys_of_next:
        raise Schema("the next page has no rows")
    if keys_of_next == keys:
        raise Schema("the next page has the same rows again")


def _check(text: str, raw: RawPage) -> list[RecipeRow]:
    """Return the rows that the proposed recipe reads. Raises Schema if it only rejects rows."""
    try:
        parsed = RecipeReader(load(text)).read(
            raw.body, url=raw.url, headers=raw.headers, now=raw.fetched_at
        )
    except BadRecipe as error:
        raise Schema(f"found no working recipe: {error}") from None
    if not parsed.rows and parsed.rejected:
        raise Schema(f"found no working recipe: {parsed.rejected[0].reason}")
    return parsed.rows


def _feed(raw: RawPage, url: str) -> RecipeDraft | None:
    try:
        feed = feeds.read(raw.body, raw.headers, raw.url)
    except Failure:
        return None
    remarks = [f"A feed ({feed.kind}) of {len(feed.entries)} entries: {feed.title or 'untitled'}."]
    if feed.malformed:
        remarks.append(f"It is malformed: {feed.malformed[:150]}")
    printable = tuple("".join(c for c in remark if c.isprintable()) for remark in remarks)
    return RecipeDraft(name=source_name(url), kind="feed", url=url, every="auto", remarks=printable)


def _json(raw: RawPage, url: str, following: RawPage | None) -> RecipeDraft | None:
    document, more = _decoded(raw), None if following is None else _decoded(following)
    return json_draft.draft_from_json(document, url, raw.headers, more)


def _decoded(raw: RawPage) -> Any:
    try:
        return decode(raw.body, raw.headers)
    except (Schema, RecursionError):
        return None


def _html(raw: RawPage, url: str) -> RecipeDraft | None:
    if b"<" not in raw.body[:2_000]:
        return None
    draft = html_draft.draft_from_html(raw.body, url, raw.headers.get("content-type"))
    offered = _feed_urls(raw)
    if draft is None or not offered:
        return draft
    remark = f"The page links to a feed, which is more reliable: {offered[0]}"
    return replace(draft, remarks=(*draft.remarks, remark))


def _feed_urls(raw: RawPage) -> list[str]:
    """The absolute URLs of the feeds that a page links to."""
    if b"<link" not in raw.body:
        return []
    urls = (resolve_url(raw.url, href) or "" for href in html_draft.feed_links(raw.body, None))
    return ["".join(filter(str.isprintable, url)) for url in urls if url]
