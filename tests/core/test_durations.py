"""Durations as people write them."""

import pytest
from pydantic import ValidationError

from app.core.durations import parse_duration
from app.sources.recipes.schedule_block import RecipeSchedule


@pytest.mark.parametrize(
    ("text", "seconds"), [("15m", 900), ("1h30m", 5_400), ("1.5h", 5_400), (" 2 D ", 172_800)]
)
def test_parts_are_added_up(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["367d", "9999999w", "9999999w" * 15])
def test_a_duration_that_is_too_long_is_refused_whatever_its_length(text: str) -> None:
    with pytest.raises(ValueError, match="is longer than 366 days"):
        parse_duration(text)
    with pytest.raises(ValidationError, match="is longer than 366 days"):
        RecipeSchedule.model_validate({"every": "5m", "misfire_grace": text})
