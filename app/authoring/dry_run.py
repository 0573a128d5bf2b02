"""One dry run: the first page that a recipe requests, fetched and parsed, and what it brought."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from app.authoring import trial
from app.authoring.dry_run_order import DryRunOrder
from app.authoring.page import PageFetcher
from app.authoring.trial import TrialPage
from app.core.errors import Failure, Timeout
from app.fetch import urls
from app.fetch.authenticated import FetcherOptions, secrets_of
from app.fetch.client import RequestCounts
from app.sources.recipes.source import SINGLE_PARTITION, RecipeSource

# Spellings of the secrets (plain, escaped), which responses must not contain.
SecretForms = Sequence[str]

MAX_ROWS = 20
MAX_REJECTIONS = 10
MAX_STRING_CHARS = 1_000  # characters of one string
MAX_ROWS_CHARS = 200_000  # characters of all rows; further rows are left out


async def dry_run(fetcher: PageFetcher, order: DryRunOrder) -> dict[str, Any]:
    """Fetch and parse the first page of the recipe's first partition; return what it brought.

    A Failure, a timeout included, is in `failure`.
    """
    source, options = order.source, order.options
    try:
        async with asyncio.timeout(order.seconds):
            fetcher = replace(fetcher, tally=RequestCounts())
            window = fetcher.fetchers.create(source.fetcher_name, replace(options, attempts=1))
            pages = await trial.fetch_trial_pages(source, fetcher, window, parts=1, pages=1)
            # The link to the next page can be faulty although this page was parsed.
            page = replace(pages[0], failure=pages[-1].failure)
            return await asyncio.to_thread(result, source, page, options)
    except TimeoutError:
        return failed(order, Timeout(f"exceeded the dry run time limit of {order.seconds:g} s"))


def failed(order: DryRunOrder, failure: Failure) -> dict[str, Any]:
    """Return the result of a dry run without a page."""
    page = TrialPage(SINGLE_PARTITION, 1, None, failure=failure)
    return result(order.source, page, order.options)


def result(source: RecipeSource, page: TrialPage, options: FetcherOptions) -> dict[str, Any]:
    """Return what the trial brought, for JSON, without the secrets of `options`."""
    forms = urls.secret_forms(secrets_of(options))
    raw, failure = page.raw, page.failure
    refusals = [{"key": r.record_id, "reason": r.reason} for r in page.rejected[:MAX_REJECTIONS]]
    return {
        "source": source.name,
        "partition": page.partition,
        "url": raw and urls.mask(raw.url, forms),
        "status": raw.status if raw else failure and failure.status,
        "bytes": len(raw.body) if raw else 0,
        "asked_seconds": round(page.seconds[0], 3),
        "read_seconds": round(page.seconds[1], 3),
        "found": len(page.rows),
        "refused": len(page.rejected),
        "rows": _rows(page, forms),
        "refusals": _masked(refusals, forms),
        "fields": _fields(source, page, forms),
        "more": page.more,
        "end": page.end,
        "failure": failure
        and {"kind": failure.kind.value, "message": urls.mask(str(failure), forms)},
    }


def _rows(page: TrialPage, forms: SecretForms) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    size = 0
    for item in page.rows[:MAX_ROWS]:
        row = _masked({"key": item.key, "data": dict(item.data)}, forms)
        size += len(json.dumps(row))
        if size > MAX_ROWS_CHARS:
            break
        shown.append(row)
    return shown


def _fields(source: RecipeSource, page: TrialPage, forms: SecretForms) -> list[dict[str, Any]]:
    declared, rows = source.recipe.extract.fields, [item.data for item in page.rows]
    names = dict.fromkeys([*declared, *(name for row in rows for name in row)])
    return [
        {
            "name": name,
            "type": declared[name].type.value if name in declared else "feed",
            **_column((row.get(name) for row in rows), forms),
        }
        for name in names
    ]


def _column(values: Iterable[Any], forms: SecretForms) -> dict[str, Any]:
    """How many of the values are empty, and the first that is not."""
    empty, example = 0, None
    for value in values:
        if value in (None, "", []):
            empty += 1
        elif example is None:
            example = _masked(value, forms)
    long = len(json.dumps(example)) > MAX_STRING_CHARS
    return {"empty": empty, "example": _truncated(str(example)) if long else example}


def _truncated(text: str) -> str:
    return text if len(text) <= MAX_STRING_CHARS else f"{text[:MAX_STRING_CHARS]}…"


def _masked(value: Any, forms: SecretForms) -> Any:
    """The value with secrets masked and long strings truncated: a site may echo a secret."""
    if isinstance(value, str):
        return _truncated(urls.mask(value, forms))
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {urls.mask(name, forms): _masked(item, forms) for name, item in pairs}
    if isinstance(value, list):
        return [_masked(item, forms) for item in cast("list[Any]", value)]
    return value
