"""Bodies of an organisation's sources."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from app.sources.recipes.blocks import NAME_PATTERN
from app.sources.recipes.load import MAX_RECIPE_LENGTH
from app.web.api.schemas.base import RequestModel, ResponseModel

RecipeName = Annotated[str, Field(pattern=NAME_PATTERN, examples=["shop"])]
RecipeText = Annotated[
    str,
    Field(
        min_length=1,
        description=f"A recipe in TOML of at most {MAX_RECIPE_LENGTH:,} characters;"
        " see docs/sources.md.",
    ),
]


class OrgSourceCreate(RequestModel):
    """A new recipe. `name`, if given, must equal the name in the recipe."""

    recipe: RecipeText
    name: RecipeName = Field(default_factory=str)


class OrgSourceChange(RequestModel):
    """The recipe that replaces the current one."""

    recipe: RecipeText


class OrgSourceSummary(ResponseModel):
    """An organisation's source. `source`: its name in presets."""

    name: str
    source: str
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class OrgSourceBody(OrgSourceSummary):
    """An organisation's source, with its recipe as it was written."""

    recipe: str


class OrgSourceList(ResponseModel):
    """The organisation's sources, by name."""

    sources: list[OrgSourceSummary]
