"""Expectations of sources, and the check of a source's result against them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from app.context import House
from app.core.config import PLATFORMS
from app.core.enums import FailureKind, HealthReason, RunStatus
from app.sources.base import Source
from app.sources.expectations import FEW_ROWS, NOTHING, Expected, Found, judge, said, worst
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.store.runs import baselines
from app.store.runs.progress import SourceRow
from app.store.runs.run_rows import Claimed

# Odds: listings shrink after a weekend and in summer, but not this much from one hour to the next.
# Several parts of one event may be rejected, so the share of rejected records means nothing.
ODDS = Expected(drop=0.6, many=FEW_ROWS)
# News: a poll may find nothing new; what it finds must be recent.
NEWS = Expected(thinning=0.6, invalid=0.5, instant="published_at", fresh=timedelta(hours=72))
STORIES = Expected(thinning=0.6, invalid=0.5)
BUILT_IN = {
    **dict.fromkeys(PLATFORMS, ODDS),
    "asknews_news": NEWS,
    "asknews_stories": STORIES,
}
HALF = 0.5  # the share of rows that may be rejected, if the recipe sets none
NEARLY_ALL = 0.9  # the largest drop of a recipe's rows, if the recipe sets none


def of(source: Source) -> Expected:
    """The expectations of a source: its recipe's, or those of the built-in source."""
    if isinstance(source, RecipeSource):
        return of_recipe(source.recipe)
    return BUILT_IN.get(source.name, NOTHING)


def of_recipe(recipe: Recipe) -> Expected:
    """The expectations of a recipe's `expect`, with defaults against losing nearly all rows."""
    said, fresh = recipe.expect, recipe.expect.fresh
    drop, min_rows = said.records.drop, 0
    if drop is None and said.records.min is None and recipe.incremental is None:
        drop, min_rows = NEARLY_ALL, FEW_ROWS
    return Expected(
        least=said.records.min,
        drop=drop,
        many=min_rows,
        filled=tuple(said.not_null),
        invalid=HALF if said.max_invalid is None else said.max_invalid,
        instant=fresh and fresh.field,
        fresh=fresh and fresh.within,
    )


async def judged(context: House, claimed: Claimed, expected: Expected, row: SourceRow) -> SourceRow:
    """The final row: a source that broke an expectation is a partial failure, with the reasons.

    A failed source is not checked; of a partly failed one, the number of records is not checked.
    """
    if expected == NOTHING or row.status is RunStatus.FAILURE:
        return row
    if row.errors:
        expected = replace(expected, least=None, drop=None)
    found = Found(row.counts.records, row.counts.rejected, row.coverage)
    before = await baselines.found(context.pool, claimed, row.source)
    breaches = judge(found, before, expected, context.clock())
    if not breaches:
        return row
    message = "; ".join(filter(None, (row.error_message, said(breaches))))
    return replace(
        row,
        status=RunStatus.PARTIAL_FAILURE,
        error_kind=row.error_kind or FailureKind.EXPECTATION.value,
        error_message=message[:500],
        breach=worst(breaches),
    )


def told(rows: Sequence[SourceRow]) -> dict[str, str]:
    """The run's `breach` stat, which health reads; empty if no expectation was broken."""
    breaches = {row.breach for row in rows}
    if HealthReason.DRIFT in breaches:
        return {"breach": HealthReason.DRIFT.value}
    if HealthReason.STALE_DATA in breaches:
        return {"breach": HealthReason.STALE_DATA.value}
    return {}
