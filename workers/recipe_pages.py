"""Replay of stored pages of the operator's recipes, with the current recipe."""

from app.core.config import Config
from app.core.enums import StoreMode
from app.core.errors import BadParameters
from app.runs.replay import ReplaySource
from app.sources.recipes.source import RecipeSource
from workers import recipe_dir, recipe_sources


def replay_reader(config: Config, name: str) -> ReplaySource:
    """The reader for pages of that recipe. A replay does not move the source's cursors.

    Raises BadRecipe if there is none or it has faults, and BadParameters if its rows are
    observations, which a replay would duplicate.
    """
    recipe = recipe_dir.find_recipe(config, name).usable()
    mode = recipe.storage.mode
    if mode is not StoreMode.UPSERT:
        raise BadParameters(
            f"{name} stores by {mode}: each row is an observation of its run and cannot be replayed"
        )
    return ReplaySource(
        recipe_dir.JOB, RecipeSource(recipe), recipe_sources.RecipeItemStorage(None, {}).write
    )
