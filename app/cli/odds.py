"""The `odds` and `odds history` commands: compare prices across sites."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.core.durations import short_span
from app.core.enums import Market, MarketOutcome
from app.core.errors import WrongState
from app.odds import price_rows, sparkline
from app.store import db
from app.store.content import odds_comparison
from app.store.schedules import heartbeats
from workers import schedule_settings

if TYPE_CHECKING:
    from rich.table import Table

    from app.odds.comparison import MarketComparison, Match, Quote

app = typer.Typer(invoke_without_command=True)

_DEFAULT_DAYS = 14
_PLOT_WIDTH = 48  # characters
_UNLIMITED = 10_000  # characters, of a table that is measured


@app.callback()
def odds(  # noqa: PLR0913 - the filters of a command are its arguments
    ctx: typer.Context,
    *,
    competition: Annotated[str | None, typer.Option(help="Part of a competition's name.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Earliest kick-off; default: now.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Latest kick-off; default: 14 days after --from.")
    ] = None,
    market: Annotated[Market | None, typer.Option(help="Only this market.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of matches.")] = 10,
    as_json: terminal.JSON = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV, one line for each price.")
    ] = False,
) -> None:
    """Compare the prices of upcoming matches.

    `*` marks the best price, `?` a stale one, `!` a negative margin: the best prices together pay
    more than they cost.

    Examples: `rollcall odds --market 1x2`,
    `rollcall odds --competition "Premier League" --to 2026-09-06T00:00:00Z --csv`
    """
    if terminal.is_subcommand(ctx):
        return
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv contradict each other")
    max_age = schedule_settings.odds_max_age(connections.load_config())

    async def read(pool: db.Pool) -> tuple[list[Match], datetime]:
        now = await heartbeats.database_now(pool)
        begin = now if since is None else terminal.parse_instant(since)
        latest = begin + timedelta(days=_DEFAULT_DAYS)
        end = latest if until is None else terminal.parse_instant(until)
        if end < begin:
            raise typer.BadParameter("it is before --from, or before now", param_hint="--to")
        matching = odds_comparison.MatchFilter(begin, end, competition, market, limit)
        page = await odds_comparison.match_page(pool, matching)
        return odds_comparison.compare(page.prices, now, max_age), now

    matches, now = connections.with_pool(read)
    if as_json:
        terminal.print_json([price_rows.match_as_json(match) for match in matches])
    elif as_csv:
        price_rows.write_csv(sys.stdout, matches)
    else:
        _show(matches, now)


@app.command()
def history(
    event: Annotated[str, typer.Argument(help="A Sportradar id, or platform/event id.")],
    market: Annotated[Market, typer.Argument(help="Such as 1x2.")],
    outcome: Annotated[MarketOutcome, typer.Argument(help="Such as home.")],
    line: Annotated[str | None, typer.Option(help="The goals line, such as 2.5.")] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Show the history of one price at every site, as a plot and a table.

    Examples: `rollcall odds history 70000001 1x2 home`,
    `rollcall odds history bet9ja/770000010 over_under over --line 2.5`
    """
    pick = (market, outcome, None if line is None else _parse_line(line))

    async def read(pool: db.Pool) -> tuple[list[dict[str, Any]], list[dict[str, Any]], datetime]:
        events = await odds_comparison.events(pool, event)
        ids = [row["id"] for row in events]
        moves = await odds_comparison.price_history(pool, ids, pick)
        if not moves:
            raise WrongState(await odds_comparison.no_price_reason(pool, event, ids, pick))
        return events, moves, await heartbeats.database_now(pool)

    found = connections.with_pool(read)
    if as_json:
        terminal.print_json(_history_as_json(found[0], found[1]))
    else:
        _show_history(*found)


def _parse_line(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not a line; try 2.5") from None


@dataclass(frozen=True, slots=True)
class _Shown:
    """What of a comparison is shown, as far as it fits."""

    best: bool = True
    ages: bool = True


def _show(matches: Sequence[Match], now: datetime) -> None:
    console = terminal.console(markup=True)
    for match in matches:
        table = _table(match, now, _Shown())
        wide = console.options.update(max_width=_UNLIMITED)
        # Without the column of the best prices, which are marked with `*` where they stand, and
        # then without the ages.
        for shown in (_Shown(best=False), _Shown(best=False, ages=False)):
            if console.measure(table, options=wide).maximum > console.width:
                table = _table(match, now, shown)
        console.print(table)
    if not matches:
        console.print("no upcoming match with a price")


def _table(match: Match, now: datetime, shown: _Shown) -> Table:
    from rich import box  # noqa: PLC0415 - not imported for `--help`
    from rich.table import Table  # noqa: PLC0415 - as above

    title = f"{match.home} - {match.away}   {match.kickoff:%a %d %b %H:%M} UTC"
    subtitle = f"{match.country}, {match.competition}   {match.key}"
    if match.swapped:
        subtitle += f"\nhome and away are swapped, not compared: {', '.join(match.swapped)}"
    table = Table(
        title=terminal.markup(f"{title}\n{subtitle}"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("market", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for platform in match.platforms:
        table.add_column(platform, justify="right", no_wrap=True)
    if shown.best:
        table.add_column("best", justify="right", no_wrap=True)
    table.add_column("margin", justify="right", no_wrap=True)
    for row in match.rows:
        _add_row(table, match, row, now, shown)
    return table


def _add_row(
    table: Table, match: Match, row: MarketComparison, now: datetime, shown: _Shown
) -> None:
    name = row.market if row.line is None else f"{row.market} {row.line}"
    for number, pick in enumerate(row.picks):
        at = now if shown.ages else None
        cells = [_cell(pick.quotes.get(platform), pick.best, at) for platform in match.platforms]
        if shown.best:
            best = "-" if pick.best is None else f"{pick.best.price} {pick.best.platform}"
            cells.append(best)
        label = "" if number else terminal.markup(name)
        table.add_row(label, terminal.markup(pick.outcome), *cells, "")
    margins = [_percent(row.margins.get(platform)) for platform in match.platforms]
    if shown.best:
        margins.append("")
    table.add_row("", "[dim]margin[/]", *margins, _percent(row.margin), end_section=True)


def _cell(quote: Quote | None, best: Quote | None, now: datetime | None) -> str:
    """A price with its marks, and with its age unless there is no `now`."""
    if quote is None:
        return "-"
    age = "" if now is None else f" {short_span((now - quote.seen_at).total_seconds())}"
    if quote.stale:
        return f"[dim]{quote.price}?{age}[/]"
    if not quote.active:
        return f"[dim]({quote.price}){age}[/]"
    return f"[green]*{quote.price}[/]{age}" if quote is best else f"{quote.price}{age}"


def _percent(margin: Decimal | None) -> str:
    """A negative margin is marked: the prices together pay more than they cost."""
    if margin is None:
        return "-"
    text = f"{margin * 100:.1f} %"
    return f"[bold magenta]{text} ![/]" if margin < 0 else text


def _history_as_json(
    events: Sequence[Mapping[str, Any]], moves: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    return [
        price_rows.event_as_json(event)
        | {
            "moves": [
                price_rows.move_as_json(move) for move in moves if move["event_id"] == event["id"]
            ]
        }
        for event in events
    ]


def _show_history(events: list[dict[str, Any]], moves: list[dict[str, Any]], now: datetime) -> None:
    console = terminal.console(markup=True)
    since = moves[0]["observed_at"]
    for event in events:
        event_moves = [move for move in moves if move["event_id"] == event["id"]]
        if not event_moves:
            continue
        path = [(m["observed_at"], m["price"] if m["active"] else None) for m in event_moves]
        lowest, highest = sparkline.price_range([path])
        line = sparkline.render(path, since, max(now, since + timedelta(seconds=1)), _PLOT_WIDTH)
        known = [price for _, price in path if price is not None]
        first, last = (known[0], known[-1]) if known else (None, None)
        console.print(f"{event['platform']:>10}  {line}")
        console.print(f"{'':>10}  first {first}, last {last}, low {lowest}, high {highest}")
    console.print(f"{'':>10}  {terminal.format_value(since)} to {terminal.format_value(now)} UTC")
    console.print(_moves_table(events, moves))


def _moves_table(events: list[dict[str, Any]], moves: list[dict[str, Any]]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - not imported for `--help`

    names = {event["id"]: event["platform"] for event in events}
    first = events[0]
    title = f"{first['home']} - {first['away']}   {first['kickoff']:%a %d %b %H:%M} UTC"
    terminal.write_line(title)
    table = Table(box=None)
    for column in ("observed (UTC)", "site", "price", "run"):
        table.add_column(column)
    for move in moves:
        shown = "withdrawn" if move["price"] is None else str(move["price"])
        suspended = " suspended" if move["price"] is not None and not move["active"] else ""
        at = f"{move['observed_at']:%Y-%m-%d %H:%M:%S}"
        table.add_row(at, names[move["event_id"]], f"{shown}{suspended}", str(move["run_id"])[:8])
    return table
