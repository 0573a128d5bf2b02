"""Checks of recipes that users write, in a sandbox process."""

import msgspec

from app.core.errors import BadRecipe, Expression
from app.sources.recipes.load import RecipeFault, load
from app.sources.recipes.model import Recipe
from app.sources.recipes.sandbox import Sandbox
from app.sources.recipes.source import RecipeCheck, SandboxResult

_decoder = msgspec.msgpack.Decoder(SandboxResult)


async def load_in_sandbox(sandbox: Sandbox, owner: str, text: str) -> Recipe:
    """Return the recipe. Its expressions are compiled in a sandbox process only.

    Compiling a regular expression of a hundred characters can take a minute. Raises BadRecipe.
    """
    request = msgspec.msgpack.encode(RecipeCheck(text))
    try:
        result = _decoder.decode(await sandbox.read(owner, request))
    except Expression:
        problem = "takes too long to check"
        fix = "simplify its regular expressions: counted repetitions of repetitions are costly"
        raise BadRecipe([RecipeFault(1, "", problem, fix)]) from None
    if result.faults:
        raise BadRecipe([RecipeFault(*fault) for fault in result.faults])
    return load(text, checked=True)
