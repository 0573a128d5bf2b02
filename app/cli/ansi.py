"""Styled lines of text for a terminal. Importing rich for them takes longer than reading a page."""

import shutil
import sys
import textwrap

from app.core import config

_CODES = {"bold": "1", "dim": "2", "green": "32", "bold red": "1;31", "yellow": "33", "cyan": "36"}
_WIDE = 240  # columns, if stdout is not a terminal


def width() -> int:
    """Return the columns of the terminal, or what the variable COLUMNS says."""
    return shutil.get_terminal_size((_WIDE, 24)).columns


def has_width() -> bool:
    """Return whether stdout is a terminal, or the variable COLUMNS says how wide it is."""
    return shutil.get_terminal_size((0, 0)).columns > 0


def styled(text: str, style: str = "") -> str:
    """Return the text with its style, or as it is if stdout takes none."""
    if not text or not style or not sys.stdout.isatty() or not config.wants_colour():
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def wrapped(text: str, columns: int, *, break_words: bool = True) -> list[str]:
    """Return the lines of the text, no longer than `columns`; a longer word is broken, or stays."""
    lines = text.splitlines() or [""]
    return [
        part
        for line in lines
        for part in textwrap.wrap(
            line, max(columns, 1), break_long_words=break_words, break_on_hyphens=False
        )
        or [""]
    ]
