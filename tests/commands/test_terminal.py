"""What scraped text may do to a terminal or a spreadsheet: nothing."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from app.cli import follow, terminal
from app.cli.main import COMMANDS, main
from app.core.csv_cells import csv_cell
from app.core.errors import WrongState

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("markup", [True, False])
def test_no_name_between_colons_becomes_an_emoji(
    capsys: pytest.CaptureFixture[str], *, markup: bool
) -> None:
    terminal.console(markup=markup).print("source:books: success", Table("source:books:"))

    printed = capsys.readouterr().out
    assert "source:books: success" in printed
    assert "📚" not in printed


def test_every_command_prints_through_the_one_kind_of_console() -> None:
    files = (ROOT / "app").rglob("*.py")

    made = [path.stem for path in files if re.search(r"\bConsole\(", path.read_text("utf-8"))]

    assert made == ["terminal"]


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "nonsense\n"])
def test_what_is_not_confirmed_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))

    with pytest.raises(WrongState, match="nothing was done; `--yes` does not ask"):
        terminal.confirm("Run them?")
    with pytest.raises(WrongState, match="nothing was deleted"):
        terminal.confirm_name("Acme Odds")


def test_a_confirmed_question_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\nAcme Odds\n"))

    terminal.confirm("Run them?")
    terminal.confirm_name("Acme Odds")

    assert capsys.readouterr().err == "Run them? [y/N]: Type Acme Odds to delete it: "


def test_a_run_without_sources_is_shown_with_its_error_and_without_an_empty_table() -> None:
    row = {
        "job": "report", "status": "failure", "stats": {"requests": 1},
        "error_type": "ValueError", "error_message": "[/x] no such day",
    }  # fmt: skip
    written = io.StringIO()

    Console(file=written, emoji=False).print(follow.progress(row, []))

    assert written.getvalue().splitlines() == [
        "report: failure: requests 1",
        "ValueError: [/x] no such day",
    ]


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


def test_what_does_not_fit_follows_its_row_as_many_on_a_line_as_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    row = {"job": "x" * 30, "due": "hourly", "trigger": "manual", "attempt": 2, "note": "w " * 30}

    terminal.print_table([row], ("job", "due", "trigger", "attempt", "note"))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    assert lines[1:4] == [
        f"{'x' * 30}  hourly",
        "    trigger: manual  attempt: 2",
        "    note: w w w w w w w w w w w w w w w",
    ]
    assert max(map(len, lines)) <= 40


COLOURED = ("job", "status", "health")


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_state_is_in_colour_in_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, coloured: bool
) -> None:
    written = _Tty()
    monkeypatch.setattr(sys, "stdout", written)
    for name, value in {"NO_COLOR": "", "TERM": "xterm", "COLUMNS": "20", **variables}.items():
        monkeypatch.setenv(name, value)

    terminal.print_table([{"job": "a", "status": "failure", "health": "healthy"}], COLOURED)
    terminal.print_fields({"status": "failure"})

    expected = (
        "\x1b[1mjob  status\x1b[0m\n"
        "a    \x1b[1;31mfailure\x1b[0m\n"
        "    \x1b[2mhealth: \x1b[0m\x1b[32mhealthy\x1b[0m\n"
        "\x1b[2mstatus\x1b[0m  \x1b[1;31mfailure\x1b[0m\n"
    )
    assert written.getvalue() == (expected if coloured else re.sub(r"\x1b\[[\d;]+m", "", expected))


def test_wide_characters_and_long_values_stay_within_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    rows = [{"name": "漢字", "n": 1, "error": "one two " * 8}, {"name": "ab", "n": 2, "error": "x"}]

    terminal.print_table(rows, ("name", "n", "error"))
    terminal.print_fields({"url": f"https://example.org/{'a' * 40}", "n": 1})

    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["name  n", "漢字  1"]
    assert printed[-1] == "  n  1"
    assert max(map(cell_len, printed)) <= 30


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table([], COLUMNS)

    assert capsys.readouterr().out == "none\n"


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


def test_a_faulty_argument_is_said_without_the_terms_of_its_validation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rollcall", "token", "create", "--scope", "bad"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "Invalid value for '--scope': 'bad' is not one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["0001-01-01T00:00+05:00", "9999-12-31T23:59:59-05:00", "0001-01-01", "9999-12-31T23:59:59"],
)
def test_an_instant_that_no_tick_can_have_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not between the years 1900 and 8999"):
        terminal.parse_instant(text)


def test_an_instant_is_in_utc_unless_it_has_an_offset() -> None:
    read = [terminal.parse_instant(text).isoformat() for text in ("2026-12-01", "2026-12-01T09+01")]

    assert read == ["2026-12-01T00:00:00+00:00", "2026-12-01T08:00:00+00:00"]


def test_the_columns_of_a_recipe_keep_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table([{"price_amount": "7.50"}], ["price_amount"], own_names=True)

    assert capsys.readouterr().out.splitlines() == ["price_amount", "7.50"]


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, also a group that does so without a subcommand."""
    subcommands = getattr(command, "commands", {})
    for name, one in subcommands.items():
        yield from commands(one, f"{path} {name}")
    if not subcommands or command.invoke_without_command:
        yield path, command


EVERY_COMMAND = [
    pytest.param(command, id=path)
    for name, lazy in COMMANDS.items()
    for path, command in commands(lazy.load(name), name)
]
PRINTS_JSON_ALWAYS = {"schema"}


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_has_json_and_help_with_an_example(command: Any) -> None:
    options = {name for option in command.params for name in option.opts}

    assert "--json" in options or command.name in PRINTS_JSON_ALWAYS
    assert re.search(r"Examples?:\s+`rollcall ", command.help)
    assert all(option.help for option in command.params if option.name != "help")


def test_a_sentence_is_folded_between_words_in_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "http://127.0.0.1:8000/login?once=abcdefghijklmnopqrstuvwxyz"
    sentence = f"The tick was decided at 2026-11-26 19:04:45.020 UTC: {address} is valid"

    monkeypatch.delenv("COLUMNS", raising=False)
    terminal.write_line(sentence)
    piped = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "40")
    terminal.write_line(sentence)
    folded = capsys.readouterr().out

    assert piped == f"{sentence}\n"
    assert folded.splitlines() == [
        "The tick was decided at 2026-11-26", "19:04:45.020 UTC:", address, "is valid",
    ]  # fmt: skip


def test_a_list_of_commands_cuts_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["rollcall", "--help"])

    with pytest.raises(SystemExit):
        main()

    printed = capsys.readouterr().out
    assert "..." not in printed.partition("Commands:")[2]
    assert max(map(len, printed.splitlines())) <= 80


def imported_by(*words: str) -> set[str]:
    """What a command imports, by the interpreter's own account."""
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-X", "importtime", "-m", "app", *words],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_help_imports_no_command_and_no_formatting() -> None:
    assert imported_by("--help").isdisjoint(
        {"rich.console", "pydantic", "asyncpg", "redis", "structlog", "app.cli.status"}
    )


def test_a_command_imports_no_formatting_of_tracebacks() -> None:
    assert imported_by("status", "--help").isdisjoint({"rich.console", "rich.traceback", "jwt"})


WRITTEN = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "docs").glob("*.yml"),
    ROOT / ".env.example",
    *(ROOT / "app").rglob("*.py"),
    *(ROOT / "app").rglob("*.html"),
    *(ROOT / "workers").rglob("*.py"),
]


TYPED = re.compile(
    r"(?:`|bin/|<code>|run |^)(?:rollcall|python -m app) ([a-z]+)(?: ([a-z]+))?", re.MULTILINE
)


def exists(name: str, subcommand: str) -> bool:
    lazy = COMMANDS.get(name)
    if lazy is None or not (lazy.is_group and subcommand):
        return lazy is not None
    return subcommand in lazy.load(name).commands


def test_every_command_that_a_text_tells_to_type_exists() -> None:
    typed = {
        (name, subcommand, path.name)
        for path in WRITTEN
        for name, subcommand in TYPED.findall(path.read_text("utf-8"))
    }

    assert len(typed) > 50
    assert [one for one in sorted(typed) if not exists(*one[:2])] == []
