"""The process that reads pages gets the same recipe as the worker has."""

import msgspec

from app.sources.recipes.load import load
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource

RECIPE = """
name = "rows"
kind = "json"
url = "https://site.test/rows"
[schedule]
cron = "*/7 6-22 * * *"
timezone = "Africa/Lagos"
overlap = "allow"
coalesce = "all"
catch_up = 3
misfire_grace = "36h"
jitter = "1.5s"
timeout = "80s"
max_attempts = 2
exclude = ["2026-12-25"]
start = "2026-01-01T00:00:00Z"
end = "2027-01-01"
[extract]
records = "rows"
[extract.fields]
id = "id"
[store]
key = "id"
"""


def test_the_sandbox_reads_the_schedule_of_a_recipe_as_it_was_written() -> None:
    recipe = load(RECIPE)

    read = Recipe.model_validate(msgspec.json.decode(RecipeSource(recipe).reader_recipe))

    assert read == recipe
