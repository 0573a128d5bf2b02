"""Expectations of sources, and the check of a source's result against them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from app.context import WorkerContext
from app.core.enums import FailureKind, HealthReason, RunStatus
from app.core.setting_types import PLATFORMS
from app.sources.base import Source
from app.sources.expectations import (
    NO_EXPECTATIONS,
    SMALL_SAMPLE_ROWS,
    Expectations,
    SourceResult,
    check,
    main_reason,
)
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.store.runs import baselines
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.progress import SourceProgress

DEFAULT_MAX_INVALID = 0.1  # the share of records that may be rejected, if the recipe sets none

# Odds: listings shrink after a weekend and in summer, but not this much from one hour to the next.
# An event of which one price was rejected counts as read and as rejected, so more may be.
ODDS = Expectations(
    may_be_empty=False, max_drop=0.6, drop_min_baseline=SMALL_SAMPLE_ROWS, max_rejected_share=0.25
)
# News: a poll may find nothing new; what it finds must be recent.
NEWS = Expectations(
    max_field_drop=0.6,
    max_rejected_share=DEFAULT_MAX_INVALID,
    timestamp_field="published_at",
    max_age=timedelta(hours=72),
)
STORIES = Expectations(max_field_drop=0.6, max_rejected_share=DEFAULT_MAX_INVALID)
BUILT_IN = {**dict.fromkeys(PLATFORMS, ODDS), "asknews_news": NEWS, "asknews_stories": STORIES}
DEFAULT_MAX_DROP = 0.9  # the largest drop of a recipe's rows, if the recipe sets none


def expectations_of(source: Source) -> Expectations:
    """The expectations of a source: its recipe's, or those of the built-in source."""
    if isinstance(source, RecipeSource):
        return recipe_expectations(source.recipe)
    return BUILT_IN.get(source.name, NO_EXPECTATIONS)


def recipe_expectations(recipe: Recipe) -> Expectations:
    """The expectations of a recipe's `expect`, with defaults against losing nearly all rows."""
    said, fresh = recipe.expect, recipe.expect.fresh
    drop, min_rows = said.records.drop, 0
    if drop is None and said.records.min is None and recipe.incremental is None:
        drop, min_rows = DEFAULT_MAX_DROP, SMALL_SAMPLE_ROWS
    return Expectations(
        min_records=said.records.min,
        may_be_empty=said.records.min == 0 or recipe.incremental is not None,
        max_drop=drop,
        drop_min_baseline=min_rows,
        required_fields=tuple(said.not_null),
        max_rejected_share=DEFAULT_MAX_INVALID if said.max_invalid is None else said.max_invalid,
        timestamp_field=fresh and fresh.field,
        max_age=fresh and fresh.within,
    )


async def check_row(
    context: WorkerContext, claimed: ClaimedRun, expected: Expectations, row: SourceProgress
) -> SourceProgress:
    """The final row: a source that broke an expectation is a partial failure, with the reasons.

    A failed source is not checked; of a partly failed one, the number of records is not checked.
    """
    if expected == NO_EXPECTATIONS or row.status is RunStatus.FAILURE:
        return row
    if row.errors:
        expected = replace(expected, min_records=None, may_be_empty=True, max_drop=None)
    found = SourceResult(row.counts.records, row.counts.rejected, row.coverage)
    before = await baselines.baselines(context.pool, claimed, row.source)
    breaches = check(found, before, expected, context.clock())
    if not breaches:
        return row
    message = "; ".join(
        filter(None, (row.error_message, "; ".join(breach.message for breach in breaches)))
    )
    return replace(
        row,
        status=RunStatus.PARTIAL_FAILURE,
        error_kind=row.error_kind or FailureKind.EXPECTATION.value,
        error_message=message[:500],
        breach=main_reason(breaches),
    )


def breach_stats(rows: Sequence[SourceProgress]) -> dict[str, str]:
    """The run's `breach` stat, which health reads; empty if no expectation was broken."""
    breaches = {row.breach for row in rows}
    if HealthReason.DRIFT in breaches:
        return {"breach": HealthReason.DRIFT.value}
    if HealthReason.STALE_DATA in breaches:
        return {"breach": HealthReason.STALE_DATA.value}
    return {}
