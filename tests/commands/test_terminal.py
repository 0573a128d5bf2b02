"""What scraped text may do to a terminal or a spreadsheet: nothing."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from app.cli import terminal
from app.cli.main import COMMANDS
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


ROWS: list[dict[str, object]] = [
    {
        "run": "5f0c7f3e",
        "job": "scrape_all_platforms",
        "status": "partial_failure",
        "started_at": datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC),
        "note": None,
        "error_message": "bet9ja: the site did not answer within 45 seconds, three times in a row",
    }
]
COLUMNS = ("run", "job", "status", "started_at", "note", "error_message")


def test_a_table_of_80_columns_folds_whole_columns_and_cuts_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    terminal.print_table(ROWS, COLUMNS)
    lines = capsys.readouterr().out.splitlines()

    assert lines[0].split() == ["run", "job", "status", "started", "at"]
    assert lines[1].split() == [
        "5f0c7f3e", "scrape_all_platforms", "partial_failure", "2026-03-01", "12:00:05",
    ]  # fmt: skip
    assert lines[2].startswith("    error message: bet9ja: ")
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert {"answer", "within", "seconds,", "three", "row"} <= set(words)


def test_a_wide_terminal_has_every_column_that_has_a_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    terminal.print_table(ROWS, COLUMNS)
    header, row = capsys.readouterr().out.splitlines()

    assert "note" not in header
    assert row.rstrip().endswith("three times in a row")


def test_no_python_value_is_shown() -> None:
    shown = terminal.format_value({"platforms": ["bet9ja", "betpawa"], "page": 1.5})

    assert shown == "platforms=bet9ja, betpawa page=1.50"


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield path, command


PRINTS_JSON_ALWAYS = {"source schema"}


def test_every_command_has_json() -> None:
    without = {
        path
        for name, lazy in COMMANDS.items()
        for path, command in commands(lazy.load(name), name)
        if not any("--json" in option.opts for option in command.params)
    }

    assert without <= PRINTS_JSON_ALWAYS | {
        "job new", "org disable", "org enable", "org limit", "token revoke",
    }  # fmt: skip
