"""A recipe proposed from one look at a page, which works as it stands. Pure."""

from dataclasses import replace

import msgspec

from app.authoring import html_draft, json_draft
from app.authoring.draft import Draft, name_of, written
from app.errors import BadRecipe, Failure, Schema
from app.feeds import reading as feeds
from app.feeds.tree import joined
from app.messages import Raw
from app.recipes.load import load
from app.recipes.reading import Pages


def proposed(raw: Raw, url: str) -> str:
    """The text of a recipe for what was found at `url`.

    Raises Schema if it is neither a feed nor JSON nor HTML with anything that repeats.
    """
    draft = _feed(raw, url) or _json(raw, url) or _html(raw, url)
    if draft is None:
        kind = raw.headers.get("content-type", "an unknown kind").partition(";")[0]
        hint = "if the page fills itself in by script, look for the API that the script asks"
        offered = _offered(raw)
        if offered:
            hint = f"it offers a feed: {offered[0]}"
        if "json" in kind:
            hint = "write a recipe by hand: extract.records may be any JMESPath, such as values(@)"
        raise Schema(f"no list of anything was found in it ({kind}, {len(raw.body)} bytes); {hint}")
    text = written(draft)
    _check(text, raw)
    return text


def _check(text: str, raw: Raw) -> None:
    """That the proposal reads the very page it was made from."""
    try:
        reading = Pages(load(text)).read(
            raw.body, url=raw.url, headers=raw.headers, now=raw.fetched_at
        )
    except BadRecipe as error:
        raise Schema(f"no recipe could be made that works: {error}") from None
    if not reading.rows and reading.refused:
        raise Schema(f"no recipe could be made that works: {reading.refused[0].reason}")


def _feed(raw: Raw, url: str) -> Draft | None:
    try:
        feed = feeds.read(raw.body, raw.headers, raw.url)
    except Failure:
        return None
    remarks = [f"A feed ({feed.kind}) of {len(feed.entries)} entries: {feed.title or 'untitled'}."]
    if feed.malformed:
        remarks.append(f"It is not quite as it should be: {feed.malformed[:150]}")
    safe = tuple("".join(c for c in remark if c.isprintable()) for remark in remarks)
    return Draft(name=name_of(url), kind="feed", url=url, every="auto", remarks=safe)


def _json(raw: Raw, url: str) -> Draft | None:
    try:
        document = msgspec.json.decode(raw.body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return json_draft.drafted(document, url, raw.headers)


def _html(raw: Raw, url: str) -> Draft | None:
    if b"<" not in raw.body[:2_000]:
        return None
    draft = html_draft.drafted(raw.body, url, raw.headers.get("content-type"))
    offered = _offered(raw)
    if draft is None or not offered:
        return draft
    remark = f"The page offers a feed, which is read more surely: {offered[0]}"
    return replace(draft, remarks=(*draft.remarks, remark))


def _offered(raw: Raw) -> list[str]:
    """The addresses of the feeds that a page offers."""
    if b"<link" not in raw.body:
        return []
    told = (joined(raw.url, href) or "" for href in html_draft.feeds(raw.body, None))
    return ["".join(filter(str.isprintable, address)) for address in told if address]
