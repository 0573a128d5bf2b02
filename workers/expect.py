"""A source's run beside what is expected of it: green is not enough."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from app.config import PLATFORMS
from app.expectations import FEW_ROWS, NOTHING, Expected, Found, judge, said, worst
from app.recipes.model import Recipe
from app.recipes.source import RecipeSource
from app.resources import House
from app.sources.base import Source
from app.store import usual
from app.store.progress import SourceRow
from app.store.runs import Claimed
from app.words import FailureKind, HealthReason, RunStatus

# Odds: boards shrink after a weekend and in summer, but not by so much from one hour to the next.
# Of one event several parts may be refused, so their share says nothing.
ODDS = Expected(drop=0.6, many=FEW_ROWS)
# News: of a poll that finds nothing new there is nothing to say; what it finds must be of now.
NEWS = Expected(thinning=0.6, invalid=0.5, instant="published_at", fresh=timedelta(hours=72))
STORIES = Expected(thinning=0.6, invalid=0.5)
BUILT_IN = {
    **dict.fromkeys(PLATFORMS, ODDS),
    "asknews_news": NEWS,
    "asknews_stories": STORIES,
}
HALF = 0.5  # of the rows may be refused, if nothing else is said
NEARLY_ALL = 0.9  # of a recipe's rows; fewer may go without its author having said so


def of(source: Source) -> Expected:
    """What is expected of a source: as its recipe says it, or as we know the built-in ones."""
    if isinstance(source, RecipeSource):
        return of_recipe(source.recipe)
    return BUILT_IN.get(source.name, NOTHING)


def of_recipe(recipe: Recipe) -> Expected:
    """What `expect` says; and if it says nothing, that neither rows nor fields all go at once."""
    said, fresh = recipe.expect, recipe.expect.fresh
    drop, many = said.records.drop, 0
    if drop is None and said.records.min is None and recipe.incremental is None:
        drop, many = NEARLY_ALL, FEW_ROWS
    return Expected(
        least=said.records.min,
        drop=drop,
        many=many,
        filled=tuple(said.not_null),
        invalid=HALF if said.max_invalid is None else said.max_invalid,
        instant=fresh and fresh.field,
        fresh=fresh and fresh.within,
    )


async def judged(house: House, claimed: Claimed, expected: Expected, row: SourceRow) -> SourceRow:
    """The row as it ends: a source that broke an expectation is a partial failure, and says why.

    A source that failed is not judged; of one that failed in part, only what its records have.
    """
    if expected == NOTHING or row.status is RunStatus.FAILURE:
        return row
    if row.errors:
        expected = replace(expected, least=None, drop=None)
    found = Found(row.counts.records, row.counts.rejected, row.coverage)
    before = await usual.found(house.pool, claimed, row.source)
    breaches = judge(found, before, expected, house.clock())
    if not breaches:
        return row
    words = "; ".join(filter(None, (row.error_message, said(breaches))))
    return replace(
        row,
        status=RunStatus.PARTIAL_FAILURE,
        error_kind=row.error_kind or FailureKind.EXPECTATION.value,
        error_message=words[:500],
        breach=worst(breaches),
    )


def told(rows: Sequence[SourceRow]) -> dict[str, str]:
    """What a run's stats say of broken expectations, for health to read."""
    breaches = {row.breach for row in rows}
    if HealthReason.DRIFT in breaches:
        return {"breach": HealthReason.DRIFT.value}
    if HealthReason.STALE_DATA in breaches:
        return {"breach": HealthReason.STALE_DATA.value}
    return {}
