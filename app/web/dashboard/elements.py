"""Small pieces of HTML that pages have hundreds of: states and times. Pure.

Functions, because a macro of Jinja costs ten times as much a call.
"""

from datetime import datetime
from functools import lru_cache

from markupsafe import Markup, escape

from app.web.dashboard import formatting


@lru_cache(maxsize=256)
def pill(state: str) -> Markup:
    """A state as a word, with a shape besides its colour."""
    words = escape(formatting.enum_text(state))
    return Markup(  # noqa: S704 - escaped
        f'<span class="pill {escape(state)}"><span aria-hidden="true">{formatting.symbol(state)}'
        f"</span> {words}</span>"
    )


def when(value: datetime | None) -> Markup | str:
    """An instant in UTC, with its date; a dash if there is none."""
    return formatting.DASH if value is None else _time(value, formatting.instant(value))


def short(value: datetime | None, now: datetime) -> Markup | str:
    """An instant in UTC, with its date if `now` is half a day away; a dash if there is none."""
    return formatting.DASH if value is None else _time(value, formatting.clock(value, now))


def ago(value: datetime | None, now: datetime) -> str:
    """How far the instant is away from `now`: `4 min ago`, `in 4 min`. Empty if there is none."""
    if value is None:
        return ""
    seconds = (now - value).total_seconds()
    distance = formatting.short_span(abs(seconds))
    return f"{distance} ago" if seconds >= 0 else f"in {distance}"


def _time(value: datetime, text: str) -> Markup:
    return Markup(  # noqa: S704 - digits and punctuation only
        f'<time datetime="{formatting.iso(value)}">{text}</time>'
    )
