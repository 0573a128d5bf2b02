"""Text from elsewhere, made safe to print or to store. Pure."""

import json
import re
from typing import Any

# C0 without tab and newline, DEL, C1, and characters that change the direction of text.
_CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)
_LINE_BREAKS = re.compile(r"[\t\n]+")
UNSTORABLE = "a NUL, half a character, or a number that JSON does not have"
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def counted(count: int, name: str) -> str:
    """The count with the name of what was counted: `1 run`, `2,000 runs`."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def lines(text: str) -> str:
    """Replace characters that a terminal interprets: escape sequences, controls, direction marks.

    Tabs and line breaks stay.
    """
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def line(text: str) -> str:
    """As `lines`, in one line: nothing in a text can look like the next line."""
    return _LINE_BREAKS.sub(" ", lines(text))


def clean_text(text: str) -> str:
    """Return `text` without NUL and lone surrogates, neither of which Postgres accepts."""
    if text.isascii() and "\0" not in text:
        return text
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text if c != "\0")


def is_storable(value: Any) -> bool:
    """Return whether a JSON value has neither NUL nor lone surrogates in its texts, nor NaN."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:  # NaN, an infinity or a lone surrogate
        return False
    return _ESCAPED_NUL.search(text) is None
