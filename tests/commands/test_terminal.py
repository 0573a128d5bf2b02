"""What scraped text may do to a terminal or a spreadsheet: nothing."""

import io

import pytest
from rich.console import Console

from app.cli import terminal
from app.core.csv_cells import csv_cell


@pytest.mark.parametrize("text", ["\x1b]0;x\x07", "\x1b[2J", "\x9b2J", "a\u202eb", "a\rb", "\x00"])
def test_no_character_that_a_terminal_interprets_is_printed(text: str) -> None:
    printed = terminal.format_value(text)

    assert printed.isprintable()
    assert "\N{REPLACEMENT CHARACTER}" in printed


def test_ordinary_text_is_printed_as_it_is() -> None:
    assert terminal.clean("Ωmegaü\tx\ny 🙂") == "Ωmegaü\tx\ny 🙂"


def test_markup_in_a_name_is_printed_and_not_obeyed() -> None:
    written = io.StringIO()

    Console(file=written).print(terminal.markup("[/foo] Evil [red]"))

    assert written.getvalue() == "[/foo] Evil [red]\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@x", "\t=1"])
def test_a_cell_that_begins_a_formula_is_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert csv_cell(-1) == -1
    assert csv_cell("a=1") == "a=1"
