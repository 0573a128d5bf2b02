"""The tick strip of a schedule as SVG. Pure.

Shape and colour show the outcome of a tick, height the duration of its run.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import datetime

from markupsafe import Markup

from app.web.dashboard.formatting import instant, precise_instant, span
from app.web.dashboard.tick_slots import SHOWN_TICKS, Slot, SlotKind, TickTotals, TimeSpan

STEP, HEIGHT, BASE = 8, 32, 30  # in units of the view box
TALLEST, SHORTEST, POINTED = 26, 4, 14
LABEL_STEP = 8  # slots from one time label to the next


def _bar(x: int, h: int) -> str:
    return f"M{x} {BASE}v-{h}h6v{h}z"


def _broken(x: int, h: int) -> str:
    half = max(h // 2 - 1, 2)
    return f"M{x} {BASE}v-{half}h6v{half}zm0-{half + 3}v-{half}h6v{half}z"


def _pointed(x: int, h: int) -> str:
    body = max(h, POINTED) - 7
    return f"M{x} {BASE}v-{body}l3-7 3 7v{body}z"


SHAPES: dict[SlotKind, Callable[[int, int], str]] = {
    SlotKind.GOOD: _bar,
    SlotKind.PARTIAL: _broken,
    SlotKind.BAD: _pointed,
    SlotKind.RUNNING: lambda x, _: f"M{x + 1} 29v-20h4v20z",  # hollow bar
    SlotKind.QUEUED: lambda x, _: f"M{x + 1} 29v-6h4v6z",  # low hollow bar
    SlotKind.RAN: _bar,
    SlotKind.SKIPPED: lambda x, _: f"M{x} 20v-4h6v4z",  # dash
    SlotKind.MISSED: lambda x, _: f"M{x} 11l6 14m0-14l-6 14",  # cross
    SlotKind.UNDECIDED: lambda x, _: f"M{x + 3} 13l3 5-3 5-3-5z",  # diamond
    SlotKind.AHEAD: lambda x, _: f"M{x + 1} 18a2 2 0 1 0 4 0a2 2 0 1 0-4 0z",  # circle
}
LEGEND = (
    (SlotKind.GOOD, "ran, success"),
    (SlotKind.PARTIAL, "ran, partial failure"),
    (SlotKind.BAD, "ran, failure"),
    (SlotKind.RUNNING, "running"),
    (SlotKind.QUEUED, "queued"),
    (SlotKind.SKIPPED, "skipped"),
    (SlotKind.MISSED, "missed"),
    (SlotKind.UNDECIDED, "undecided"),
)


def small_shapes(slots: Sequence[Slot]) -> str:
    """The slots of a small strip: one path for each kind, because a page has hundreds of strips."""
    slots = slots[-SHOWN_TICKS:]
    offset = SHOWN_TICKS - len(slots)
    tallest = max((slot.seconds or 0.0 for slot in slots), default=0.0) or 1.0
    drawn: dict[SlotKind, str] = {}
    for n, slot in enumerate(slots):
        drawn[slot.kind] = drawn.get(slot.kind, "") + _path(slot, offset + n, tallest)
    return "".join(f'<path class="{kind}" d="{path}"/>' for kind, path in drawn.items())


def small_strip(
    slots: Sequence[Slot],
    shapes: str,
    tally: TickTotals,
    outages: Sequence[TimeSpan],
    now: datetime,
) -> Markup:
    """The strip with the newest tick on the right, and outages as bands behind the slots.

    `now`: an outage until then goes on. `shapes`: the slots, as `small_shapes` draws them. What a
    slot says is on the page of the job; `data-slots` and `data-newest` are how many there are, and
    the instant of the newest.
    """
    slots = slots[-SHOWN_TICKS:]
    offset = SHOWN_TICKS - len(slots)
    newest = precise_instant(slots[-1].at) if slots else ""
    bands = [_band(slots, offset, outage, now) for outage in outages]
    return Markup(  # noqa: S704 - enum values and numbers only
        f'<svg class="strip" viewBox="0 0 {SHOWN_TICKS * STEP} {HEIGHT}" preserveAspectRatio="none"'
        f' data-slots="{len(slots)}" data-newest="{newest}"'
        f' role="img" aria-label="{strip_label(len(slots), tally)}">'
        f"<g>{''.join(bands)}</g><g>{shapes}</g></svg>"
    )


def large_strip(
    slots: Sequence[Slot], upcoming: Sequence[datetime], outages: Sequence[TimeSpan], now: datetime
) -> Markup:
    """The large strip: also the upcoming ticks, a line at `now`, and time labels."""
    ahead = [Slot(at, SlotKind.AHEAD, "upcoming") for at in upcoming]
    slots = slots[-SHOWN_TICKS:]
    both, offset = [*slots, *ahead], SHOWN_TICKS - len(slots)
    tallest = max((slot.seconds or 0.0 for slot in slots), default=0.0) or 1.0
    width, line = (SHOWN_TICKS + len(ahead)) * STEP, SHOWN_TICKS * STEP
    labels = [_label(both[n].at, offset + n, line) for n in range(0, len(both), LABEL_STEP)]
    return Markup(  # noqa: S704 - enum values and numbers only
        f'<svg class="strip long" viewBox="0 0 {width} {HEIGHT + 8}" role="img"'
        f' aria-label="The last {len(slots)} ticks, now, and the next {len(ahead)}">'
        f"<g>{''.join(_band(slots, offset, outage, now) for outage in outages)}"
        f'<path class="nowline" d="M{line} 0v{HEIGHT}"><title>now: {instant(now)}</title></path>'
        f'<text class="nowline" x="{line}" y="{HEIGHT + 6}" text-anchor="middle">now</text>'
        f"{''.join(labels)}</g>"
        f"<g>{''.join(_shape(slot, offset + n, tallest) for n, slot in enumerate(both))}</g></svg>"
    )


def _shape(slot: Slot, place: int, tallest: float) -> str:
    path = _path(slot, place, tallest)
    title = f"{precise_instant(slot.at)} {slot.says}"
    return f'<path class="{slot.kind}" d="{path}"><title>{title}</title></path>'


def _path(slot: Slot, place: int, tallest: float) -> str:
    return SHAPES[slot.kind](place * STEP + 1, _height(slot.seconds, tallest))


def _label(at: datetime, place: int, line: int) -> str:
    x = place * STEP + STEP // 2
    if abs(x - line) < 2 * STEP:
        return ""  # overlaps the "now" label
    return f'<text x="{x}" y="{HEIGHT + 6}" text-anchor="middle">{at:%H:%M}</text>'


def legend_sample(kind: SlotKind) -> Markup:
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="sample" viewBox="0 0 {STEP} {HEIGHT}" aria-hidden="true">'
        f'<path class="{kind}" d="{SHAPES[kind](1, 20)}"/></svg>'
    )


def strip_label(count: int, tally: TickTotals) -> str:
    """All of the strip in a sentence."""
    if not count:
        return "No tick yet"
    failed = f" ({tally.failed} failed)" if tally.failed else ""
    return (
        f"The last {count} ticks: {tally.ran} ran{failed},"
        f" {tally.skipped} skipped, {tally.missed} missed"
    )


def _height(seconds: float | None, tallest: float) -> int:
    if seconds is None:
        return TALLEST
    return SHORTEST + round((TALLEST - SHORTEST) * seconds / tallest)


def _band(slots: Sequence[Slot], offset: int, outage: TimeSpan, now: datetime) -> str:
    before, after = (bisect_left(slots, at, key=lambda slot: slot.at) for at in outage)
    if after == 0 or (before == len(slots) and slots):
        # The outage ends before the first slot, or starts after the last with no tick due in it.
        return "" if after == 0 else _rect(SHOWN_TICKS * STEP - 2, 2, outage, now)
    left = (offset + before) * STEP
    width = (after - before) * STEP
    return _rect(left, width, outage, now) if width else _rect(left - 1, 2, outage, now)


def _rect(left: int, width: int, outage: TimeSpan, now: datetime) -> str:
    since, until = outage
    ended = f"from {instant(since)} to {instant(until)} ({span((until - since).total_seconds())})"
    period = f"since {instant(since)}" if until == now else ended
    return (
        f'<path class="outage" d="M{left} 0h{width}v{HEIGHT}h-{width}z">'
        f"<title>No live worker {period}</title></path>"
    )
