"""Replay of stored pages of the operator's recipes, with the current recipe."""

from app.config import Config
from app.errors import BadParameters
from app.recipes.source import RecipeSource
from app.replay import Reader
from app.words import StoreMode
from workers import folder, recipes


def reader(config: Config, name: str) -> Reader:
    """The reader for pages of that recipe. A replay does not move the source's cursors.

    Raises BadRecipe if there is none or it has faults, and BadParameters if its rows are
    observations, which a replay would duplicate.
    """
    recipe = folder.find(config, name).usable()
    mode = recipe.kept.mode
    if mode is not StoreMode.UPSERT:
        raise BadParameters(
            f"{name} stores by {mode}: each row is an observation of its run and cannot be replayed"
        )
    return Reader(folder.JOB, RecipeSource(recipe), recipes.Keeping(None, {}).write)
