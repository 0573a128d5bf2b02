"""Enums for the closed sets of values in a recipe."""

from enum import StrEnum


class RecipeKind(StrEnum):
    """The format of the pages of a source."""

    JSON = "json"
    FEED = "feed"
    HTML = "html"


class FieldType(StrEnum):
    """The type of a column. Every type is stored as a JSON value."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DATE = "date"
    URL = "url"
    LIST = "list"
    JSON = "json"


class Missing(StrEnum):
    """What happens to a stored row that is absent from a complete listing."""

    KEEP = "keep"
    MARK = "mark"
