"""Shared by the commands: parsing of instants, questions and output."""

import getpass
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli import ansi
from app.core import durations, printable
from app.core.errors import WrongState

if TYPE_CHECKING:
    from rich.console import Console

JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

LONGEST_AGE = timedelta(days=36_600)
_YEARS = range(1900, 9000)  # a tick before or after an instant is one that Python can express
MAX_NOTE_LENGTH = 500
_GAP = "  "  # between two columns
_INDENT = 4  # characters before what follows a row
_STATE_COLUMNS = frozenset({"status", "health", "last_status", "outcome", "level"})
_STYLES = {
    "green": ("success", "healthy", "ran", "ok"),
    "bold red": ("failure", "timed_out", "lost", "unhealthy", "missed", "fault"),
    "yellow": ("partial_failure", "cancelled", "skipped", "paused", "not_started", "warning"),
    "cyan": ("running", "queued"),
}
_STATE_STYLES = {state: style for style, states in _STYLES.items() for state in states}


def current_user() -> str:
    """Return the operating system user to record as the requester, or `somebody`."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        return "somebody"


def print_json(value: object) -> None:
    """Print the value as one line of JSON: instants in ISO 8601, ids and decimals as text."""
    sys.stdout.write(json.dumps(value, default=_json_default) + "\n")
    sys.stdout.flush()


def _json_default(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def print_table(
    rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, own_names: bool = False
) -> None:
    """Print the rows as a table, within the terminal's width.

    `own_names`: the columns are a recipe's, whose names are printed as they are written.

    Columns without a value are left out. Those that do not fit follow each row, with their names,
    as many on a line as fit: no word is cut. Without rows it prints `none`.
    """
    rows = list(rows)
    if not rows:
        sys.stdout.write("none\n")
        return
    from rich.cells import cell_len  # noqa: PLC0415 - not imported for `--json`

    cells = [[format_value(row.get(name)) for name in columns] for row in rows]
    kept = [n for n, _ in enumerate(columns) if any(row[n] for row in cells)]
    names = [name if own_names else name.replace("_", " ") for name in columns]
    widths = {n: max(map(cell_len, [names[n], *(row[n] for row in cells)])) for n in kept}
    shown, used = kept[:1], widths[kept[0]] if kept else 0
    for n in kept[1:]:
        if used + len(_GAP) + widths[n] <= ansi.width():
            shown.append(n)
            used += len(_GAP) + widths[n]

    def line(row: Sequence[str], styles: Sequence[str]) -> str:
        last = max((n for n in shown if row[n]), default=-1)
        padding = {n: " " * (widths[n] - cell_len(row[n])) for n in shown}
        padded = [ansi.styled(row[n], styles[n]) + padding[n] for n in shown if n <= last]
        return _GAP.join(padded).rstrip()

    write = sys.stdout.write
    write(ansi.styled(line(names, [""] * len(names)), "bold") + "\n")
    for row in cells:
        write(line(row, [_style(name, text) for name, text in zip(columns, row, strict=True)]))
        write("\n")
        folded = [(names[n], row[n], _style(columns[n], row[n])) for n in kept if n not in shown]
        write("".join(f"{one}\n" for one in _folded([one for one in folded if one[1]])))
    sys.stdout.flush()


def _folded(parts: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """The lines below a row, indented: name, value and style of each part, as many as fit."""
    from rich.cells import cell_len  # noqa: PLC0415 - not imported for `--json`

    room, line, used = ansi.width() - _INDENT, "", 0
    for name, value, style in parts:
        length = len(name) + 2 + cell_len(value)
        text = ansi.styled(f"{name}: ", "dim") + ansi.styled(value, style)
        if line and used + len(_GAP) + length <= room:
            line, used = f"{line}{_GAP}{text}", used + len(_GAP) + length
            continue
        if line:
            yield " " * _INDENT + line
        line, used = text, length
        if length > room:
            yield from (" " * _INDENT + one for one in ansi.wrapped(f"{name}: {value}", room))
            line = ""
    if line:
        yield " " * _INDENT + line


def _style(column: str, text: str) -> str:
    return _STATE_STYLES.get(text.split(" ", 1)[0], "") if column in _STATE_COLUMNS else ""


def print_rows(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str] = (), *, as_json: bool
) -> None:
    """Print the rows as JSON, or as a table of these columns, or of all that the first row has."""
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns or (list(rows[0]) if rows else ()))


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one record, a line for each field that has a value; long values are folded."""
    texts = {name.replace("_", " "): (name, format_value(value)) for name, value in fields.items()}
    texts = {label: (name, text) for label, (name, text) in texts.items() if text}
    indent = max(map(len, texts), default=0)
    for label, (name, text) in texts.items():
        first, *rest = ansi.wrapped(text, ansi.width() - indent - len(_GAP))
        shown = ansi.styled(label, "dim")
        sys.stdout.write(
            f"{' ' * (indent - len(label))}{shown}{_GAP}{ansi.styled(first, _style(name, text))}\n"
        )
        sys.stdout.writelines(f"{' ' * (indent + len(_GAP))}{one}\n" for one in rest)
    sys.stdout.flush()


def print_done(done: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """Print what a command has done: as JSON, or as a sentence."""
    if as_json:
        print_json(done)
    else:
        write_line(text)


def console(*, stderr: bool = False, markup: bool = False) -> "Console":
    """Return the console of every command: 240 columns wide if stdout is not a terminal.

    The variable COLUMNS sets another width. With `markup` it reads that of rich. It prints a name
    such as `source:books:` as it is, and never as an emoji.
    """
    from rich.console import Console  # noqa: PLC0415 - not imported for `--json`

    return Console(stderr=stderr, highlight=False, markup=markup, emoji=False, width=ansi.width())


def confirm(question: str) -> None:
    """Ask a question that `y` answers. Raises WrongState if the answer is another, or none."""
    if _answer(f"{question} [y/N]: ").lower() not in ("y", "yes"):
        raise WrongState("not confirmed, so nothing was done; `--yes` does not ask")


def confirm_name(name: str) -> None:
    """Ask for the name of what is deleted. Raises WrongState if the answer is another, or none."""
    if _answer(f"Type {name} to delete it: ") != name:
        raise WrongState("the name was not repeated, so nothing was deleted; `--yes` does not ask")


def _answer(question: str) -> str:
    sys.stderr.write(clean(question))
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line.endswith("\n"):  # the end of stdin, without a line break after the question
        sys.stderr.write("\n")
    return line.strip()


def clean(text: str) -> str:
    """Replace characters that a terminal interprets: escape sequences, controls, direction marks.

    Every scraped text is printed through this function.
    """
    return printable.lines(text)


def markup(value: object) -> str:
    """Format a value for a rich console that reads markup: it is printed as it is."""
    from rich.markup import escape  # noqa: PLC0415 - not imported for `--json`

    return escape(clean(str(value)))


def write_line(text: str) -> None:
    """Write a line to stdout without characters that a terminal interprets.

    In a terminal it is folded between words, of which none is broken.
    """
    text = clean(text)
    if ansi.has_width():
        text = "\n".join(ansi.wrapped(text, ansi.width(), break_words=False))
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def format_value(value: object) -> str:
    """Format a value for people: instants in UTC, fractions with two decimals, None as nothing.

    A mapping reads `name=value name=value`, a list `one, two`.
    """
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return " ".join(f"{clean(str(name))}={format_value(one)}" for name, one in pairs)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(format_value, cast("Iterable[object]", value)))
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.2f}"
    return clean(str(value))


def is_subcommand(ctx: typer.Context) -> bool:
    """Return whether a command of the group follows. Raises typer.BadParameter if options precede.

    They are the group's own, so that the command would not see them.
    """
    name = ctx.invoked_subcommand
    sources = (ctx.get_parameter_source(option) for option in ctx.params)
    if name is not None and any(source and source.name != "DEFAULT" for source in sources):
        raise typer.BadParameter(f"write the options after `{name}`, which they are for")
    return name is not None


def parse_note(text: str) -> str:
    """Return the reason of an action, as the pages and the API take it.

    Raises typer.BadParameter.
    """
    note = text.strip()
    if not note or len(note) > MAX_NOTE_LENGTH or not note.isprintable():
        raise typer.BadParameter(
            f"say why, in one line of at most {MAX_NOTE_LENGTH} characters", param_hint="--note"
        )
    return note


def parse_range(since: str | None, until: str | None, now: datetime) -> list[datetime | None]:
    """Parse two instants or ages, of which either may be missing. Raises typer.BadParameter."""
    begin, end = (
        None if text is None else parse_instant_or_age(text, now) for text in (since, until)
    )
    if begin is not None and end is not None and end < begin:
        raise typer.BadParameter("it is before --since", param_hint="--until")
    return [begin, end]


def parse_instant_or_age(text: str, now: datetime) -> datetime:
    """Parse an instant or an age such as `90m`, `2h`, `1d`; returns UTC.

    Raises typer.BadParameter.
    """
    try:
        return now - durations.parse_duration(text, LONGEST_AGE)
    except ValueError:
        return parse_instant(text)


def parse_instant(text: str) -> datetime:
    """Parse an ISO 8601 instant, in UTC unless it has an offset. Raises typer.BadParameter."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an instant; try 2026-09-05T14:00:00Z") from None
    if parsed.year not in _YEARS:
        raise typer.BadParameter(f"{text!r} is not between the years {_YEARS[0]} and {_YEARS[-1]}")
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
