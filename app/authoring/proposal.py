"""Proposal of a working recipe from one fetched page: feed, JSON or HTML. Pure."""

from dataclasses import replace

import msgspec

from app.authoring import html_draft, json_draft
from app.authoring.draft import RecipeDraft, source_name, to_toml
from app.core.errors import BadRecipe, Failure, Schema
from app.core.messages import RawPage
from app.sources.feeds import reading as feeds
from app.sources.feeds.tree import resolve_url
from app.sources.recipes.load import load
from app.sources.recipes.reading import RecipeReader


def propose_recipe(raw: RawPage, url: str) -> str:
    """Return the text of a recipe for the page at `url`.

    Raises Schema if the page is neither a feed, nor JSON or HTML with a list of records.
    """
    draft = _feed(raw, url) or _json(raw, url) or _html(raw, url)
    if draft is None:
        kind = raw.headers.get("content-type", "unknown content type").partition(";")[0]
        hint = "if a script fills in the page, look for the API that the script calls"
        offered = _feed_urls(raw)
        if offered:
            hint = f"it links to a feed: {offered[0]}"
        if "json" in kind:
            hint = "write a recipe by hand: extract.records can be any JMESPath, such as values(@)"
        raise Schema(f"found no list of records ({kind}, {len(raw.body)} bytes); {hint}")
    text = to_toml(draft)
    _check(text, raw)
    return text


def _check(text: str, raw: RawPage) -> None:
    """Parse the page by the proposed recipe. Raises Schema if that yields no rows."""
    try:
        parsed = RecipeReader(load(text)).read(
            raw.body, url=raw.url, headers=raw.headers, now=raw.fetched_at
        )
    except BadRecipe as error:
        raise Schema(f"found no working recipe: {error}") from None
    if not parsed.rows and parsed.rejected:
        raise Schema(f"found no working recipe: {parsed.rejected[0].reason}")


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


def _json(raw: RawPage, url: str) -> RecipeDraft | None:
    try:
        document = msgspec.json.decode(raw.body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return json_draft.draft_from_json(document, url, raw.headers)


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
