"""Line charts as SVG: prices and sentiment over time. Pure.

Each line has its own colour, dash pattern and point shape, so that it can be told apart without
seeing colours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup, escape

from app.web.dashboard.formatting import instant

WIDTH, HEIGHT = 720, 260  # in units of the view box
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 24
STYLES = 6  # line styles of the style sheet; more lines repeat them
TIME_LABELS = 6
MAX_POINTS = 400  # points drawn of a line; more are thinned out
MAX_TITLES = 120  # points of a line that get a shape with a title
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """A value from an instant on. `value` None: there is none. `held`: it is suspended."""

    at: datetime
    value: float | None
    held: bool = False


@dataclass(frozen=True, slots=True)
class ChartLine:
    """A named line. `points` are in order of time."""

    name: str
    points: Sequence[ChartPoint]


@dataclass(frozen=True, slots=True)
class _Scale:
    since: datetime
    until: datetime
    low: float
    high: float

    def x(self, at: datetime) -> float:
        span = (self.until - self.since).total_seconds()
        share = (at - self.since).total_seconds() / span
        return round(LEFT + min(max(share, 0), 1) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def step_chart(lines: Sequence[ChartLine], since: datetime, until: datetime, label: str) -> Markup:
    """A chart whose values hold until the next point, such as prices.

    A suspended stretch is dotted, and where a value ends there is a cross.
    """
    return _chart(lines, (since, until), label, _steps)


def sloped_chart(
    lines: Sequence[ChartLine],
    since: datetime,
    until: datetime,
    label: str,
    bounds: tuple[float, float] | None = None,
) -> Markup:
    """A chart with straight lines from value to value, such as sentiment. `bounds`: its range."""
    return _chart(lines, (since, until), label, _slopes, bounds)


def sample(number: int) -> Markup:
    """The style of the line of that number, for a legend."""
    style = number % STYLES
    return Markup(  # noqa: S704 - a number only
        f'<svg class="chart-sample" viewBox="0 0 36 12" aria-hidden="true">'
        f'<path class="line line-{style}" d="M0 6H36"/>{_shape(style, 18, 6, "")}</svg>'
    )


def sparkline(values: Sequence[float], low: float, high: float) -> Markup:
    """A line of values without axes; the table that contains it has the last value in words."""
    if not values:
        return Markup("")
    step = 100 / max(len(values) - 1, 1)
    places = [
        f"{round(n * step, 1)} {round(22 - (value - low) / (high - low) * 20, 1)}"
        for n, value in enumerate(values)
    ]
    path = f"M{places[0]}L{' '.join(places[1:]) or places[0]}"
    return Markup(  # noqa: S704 - numbers only
        '<svg class="sparkline" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="axis" d="M0 12H100"/><path class="line line-0" d="{path}"/></svg>'
    )


def _chart(
    lines: Sequence[ChartLine],
    period: tuple[datetime, datetime],
    label: str,
    draw: Callable[[Sequence[ChartPoint], _Scale], tuple[str, str, list[ChartPoint]]],
    bounds: tuple[float, float] | None = None,
) -> Markup:
    since, until = period
    values = [p.value for line in lines for p in line.points if p.value is not None]
    if not values:
        return Markup("")
    ticks = _value_ticks(*(bounds or (min(values), max(values))))
    scale = _Scale(since, max(until, since + timedelta(seconds=1)), ticks[0], ticks[-1])
    drawn = [_line(n, each, scale, draw) for n, each in enumerate(lines)]
    return Markup(  # noqa: S704 - numbers, and text escaped here
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(label)}">{_axes(scale, ticks)}{"".join(drawn)}</svg>'
    )


def _line(
    number: int,
    line: ChartLine,
    scale: _Scale,
    draw: Callable[[Sequence[ChartPoint], _Scale], tuple[str, str, list[ChartPoint]]],
) -> str:
    style = number % STYLES
    points = _thinned(line.points)
    solid, held, ends = draw(points, scale)
    named = points if len(points) <= MAX_TITLES else points[:: len(points) // MAX_TITLES + 1]
    shapes = [
        _shape(style, scale.x(p.at), scale.y(p.value), _title(line.name, p))
        for p in named
        if p.value is not None
    ]
    crosses = [
        f'<path class="end line-{style}" d="M{scale.x(p.at)} {scale.y(p.value)}m-4-4l8 8m0-8l-8 8">'
        f"<title>{escape(line.name)} withdrawn {instant(p.at)} UTC</title></path>"
        for p in ends
        if p.value is not None
    ]
    return (
        f'<path class="line line-{style}" d="{solid}"/>'
        f'<path class="line held line-{style}" d="{held}"/>{"".join(shapes)}{"".join(crosses)}'
    )


def _title(name: str, point: ChartPoint) -> str:
    suspended = " suspended" if point.held else ""
    return f"<title>{escape(name)} {point.value:g}{suspended} {instant(point.at)} UTC</title>"


def _steps(points: Sequence[ChartPoint], scale: _Scale) -> tuple[str, str, list[ChartPoint]]:
    """The solid path, the dotted one, and where the value ends, at its last height."""
    paths: dict[bool, list[str]] = {False: [], True: []}
    ends: list[ChartPoint] = []
    last = points[-1] if points else None
    following = [*pairwise(points), *([(last, None)] if last is not None else [])]
    for point, after in following:
        if point.value is None:
            continue
        end = scale.until if after is None else after.at
        y = scale.y(point.value)
        path = f"M{scale.x(point.at)} {y}H{scale.x(end)}"
        if after is not None and after.value is not None:
            path += f"V{scale.y(after.value)}"
        if after is not None and after.value is None:
            ends.append(ChartPoint(after.at, point.value))
        paths[point.held].append(path)
    return "".join(paths[False]), "".join(paths[True]), ends


def _slopes(points: Sequence[ChartPoint], scale: _Scale) -> tuple[str, str, list[ChartPoint]]:
    """The solid path, interrupted where there is no value."""
    path, drawing = "", False
    for point in points:
        if point.value is not None:
            path += f"{'L' if drawing else 'M'}{scale.x(point.at)} {scale.y(point.value)}"
        drawing = point.value is not None
    return path, "", []


def _thinned(points: Sequence[ChartPoint]) -> Sequence[ChartPoint]:
    """At most MAX_POINTS points: of equal parts in order, each part's lowest, highest and last."""
    if len(points) <= MAX_POINTS:
        return points
    size = len(points) * 4 // MAX_POINTS + 1
    kept: list[ChartPoint] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        valued = [p for p in part if p.value is not None]
        chosen = {id(part[-1])} | {id(p) for p in part if p.value is None}
        if valued:
            chosen |= {id(min(valued, key=_value)), id(max(valued, key=_value))}
        kept += [p for p in part if id(p) in chosen]
    return kept


def _value(point: ChartPoint) -> float:
    return point.value or 0.0


def _value_ticks(low: float, high: float) -> list[float]:
    """A few round values that include both."""
    span = (high - low) or abs(high) * 0.1 or 1.0
    rough = span / 4
    size = 10 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    first, last = floor(low / step), ceil(high / step)
    return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]


def _axes(scale: _Scale, ticks: Sequence[float]) -> str:
    across = [
        f'<path class="axis" d="M{LEFT} {scale.y(tick)}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{scale.y(tick) + 4}" text-anchor="end">{_short(tick)}</text>'
        for tick in ticks
    ]
    span = scale.until - scale.since
    pattern = "%H:%M" if span < _DAY else "%d %b %H:%M" if span < 4 * _DAY else "%d %b"
    labels: list[str] = []
    for n in range(TIME_LABELS):
        at = scale.since + span * n / (TIME_LABELS - 1)
        anchor = "start" if n == 0 else "end" if n == TIME_LABELS - 1 else "middle"
        labels.append(
            f'<text x="{scale.x(at)}" y="{HEIGHT - 6}" text-anchor="{anchor}">{at:{pattern}}</text>'
        )
    return "".join(across) + "".join(labels)


def _short(value: float) -> str:
    """The number, in thousands or millions if it is large: `2.5`, `40k`, `1.5M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):g}{unit}"
    return f"{value:g}"


def _shape(style: int, x: float, y: float, title: str) -> str:
    paths = (
        f"M{x - 3} {y}a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
        f"M{x - 3} {y - 3}h6v6h-6z",
        f"M{x} {y - 4}l4 7h-8z",
        f"M{x} {y - 4}l4 4-4 4-4-4z",
        f"M{x} {y + 4}l4-7h-8z",
        f"M{x - 4} {y - 1}h8v2h-8z",
    )
    return f'<path class="point line-{style}" d="{paths[style]}">{title}</path>'
