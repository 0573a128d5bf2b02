"""Replay of stored pages of the operator's recipes, with the current recipe."""

from app.core.config import Config
from app.core.enums import StoreMode
from app.core.errors import BadParameters
from app.runs.replay import Reader
from app.sources.recipes.source import RecipeSource
from workers import recipe_dir, recipe_sources


def reader(config: Config, name: str) -> Reader:
    """The reader for pages of that recipe. A replay does not move the source's cursors.

    Raises BadRecipe if there is none or it has faults, and BadParameters if its rows are
    observations, which a replay would duplicate.
    """
    recipe = recipe_dir.find(config, name).usable()
    mode = recipe.kept.mode
    if mode is not StoreMode.UPSERT:
        raise BadParameters(
            f"{name} stores by {mode}: each row is an observation of its run and cannot be replayed"
        )
    return Reader(recipe_dir.JOB, RecipeSource(recipe), recipe_sources.Keeping(None, {}).write)
