"""The kept pages of the operator's own sources, to be read again with the recipe as it is now."""

from app.config import Config
from app.errors import BadParameters
from app.recipes.source import RecipeSource
from app.replay import Reader
from app.words import StoreMode
from workers import folder, recipes


def reader(config: Config, name: str) -> Reader:
    """How the pages of that recipe are read. How far the source has been read is not touched.

    Raises BadRecipe if there is none or it has faults, and BadParameters if its rows are
    observations, which a replay would double.
    """
    recipe = folder.find(config, name).usable()
    mode = recipe.kept.mode
    if mode is not StoreMode.UPSERT:
        raise BadParameters(
            f"{name} stores by {mode}: each row is an observation of its run, and is not made again"
        )
    return Reader(folder.JOB, RecipeSource(recipe), recipes.Keeping(None, {}).write)
