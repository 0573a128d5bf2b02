"""The tables [paginate] of a recipe, by type, and how the end of a listing is recognised."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from app.sources.recipes import expressions
from app.sources.recipes.blocks import Param, RecipeBlock

MAX_PAGES = 1_000
NO_CONTENT = 204
# What a site answers to a client that it refuses or slows down: never the end of a listing.
NO_END_STATUS = frozenset({401, 403, 407, 408, 425, 429})


def _check_end_status(status: int) -> int:
    is_client_error = 400 <= status < 500 and status not in NO_END_STATUS  # noqa: PLR2004 - 4xx
    if status != NO_CONTENT and not is_client_error:
        raise ValueError(f"cannot be {status}; write 204, 400, 404, 410, 416 or 422")
    return status


class _Ends(RecipeBlock):
    """How the end of a listing is recognised, besides what the type of pagination says."""

    total: expressions.ExpressionText | None = None
    has_more: expressions.ExpressionText | None = None
    end_when: expressions.ExpressionText | None = None
    end_status: Annotated[
        list[Annotated[int, AfterValidator(_check_end_status)]], Field(max_length=10)
    ] = []


class _Paged(_Ends):
    max_pages: Annotated[int, Field(ge=1, le=MAX_PAGES)]
    enough: bool = False
    stable: bool = False


class OnePage(_Ends):
    """No pagination: the source has one page."""

    type: Literal["none"] = "none"
    enough: bool = False
    stable: bool = False

    @property
    def max_pages(self) -> int:
        """Always 1."""
        return 1


class ByPage(_Paged):
    """`param` is the page number, from `start` until the list of a page is empty."""

    type: Literal["page"]
    param: Param = "page"
    start: Annotated[int, Field(ge=0, le=1)] = 1
    size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size_param: Param | None = None
    short_page_ends: bool = False

    @model_validator(mode="after")
    def _has_size(self) -> Self:
        if self.short_page_ends and self.size is None:
            raise ValueError("short_page_ends needs size; write the number of rows of a full page")
        return self


class ByOffset(_Paged):
    """`param` is the number of rows received so far, until the list of a page is empty."""

    type: Literal["offset"]
    param: Param = "offset"
    size: Annotated[int, Field(ge=1, le=100_000)]
    size_param: Param | None = "limit"
    short_page_ends: bool = False


class ByCursor(_Paged):
    """`param` is the cursor that `path` found in the previous page, until it finds none."""

    type: Literal["cursor"]
    param: Param = "cursor"
    path: expressions.ExpressionText
    size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size_param: Param | None = None


class ByNext(_Paged):
    """`path` finds the URL of the next page, until it finds none."""

    type: Literal["next"]
    path: expressions.ExpressionText


class ByLink(_Paged):
    """The header `Link: <…>; rel="next"` names the next page (RFC 8288)."""

    type: Literal["link_header"]


Paginate = Annotated[
    OnePage | ByPage | ByOffset | ByCursor | ByNext | ByLink, Field(discriminator="type")
]
