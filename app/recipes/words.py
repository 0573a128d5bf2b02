"""The closed sets of words of a recipe."""

from enum import StrEnum


class Kind(StrEnum):
    """What its pages are."""

    JSON = "json"
    FEED = "feed"
    HTML = "html"


class FieldType(StrEnum):
    """What a column holds. All are stored as JSON values."""

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
    """What becomes of a row that a complete listing lacks."""

    KEEP = "keep"
    MARK = "mark"
