"""The tables [auth] of a recipe, by type."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.sources.recipes.blocks import Param, RecipeBlock, Reference, Text, Url, check_key_name


class Bearer(RecipeBlock):
    """`Authorization: Bearer …`."""

    type: Literal["bearer"]
    token: Reference


class RecipeHeaderKey(RecipeBlock):
    """An API key in a header."""

    type: Literal["header"]
    name: Annotated[
        str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,60}$"), AfterValidator(check_key_name)
    ]
    value: Reference


class RecipeQueryKey(RecipeBlock):
    """An API key in a query parameter. The value is redacted everywhere."""

    type: Literal["query"]
    name: Param
    value: Reference


class Basic(RecipeBlock):
    """HTTP basic authentication."""

    type: Literal["basic"]
    username: Text
    password: Reference


class OAuth2(RecipeBlock):
    """OAuth2 client credentials (RFC 6749 4.4)."""

    type: Literal["oauth2"]
    token_url: Url
    client_id: Text
    client_secret: Reference
    scope: Text = ""


Auth = Annotated[
    Bearer | RecipeHeaderKey | RecipeQueryKey | Basic | OAuth2, Field(discriminator="type")
]
