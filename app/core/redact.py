"""Redacts secrets in text: known ones, and whatever looks like one. Pure.

Log events also lose what a terminal would interpret: they quote sites.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, cast
from urllib.parse import quote, quote_plus

from app.core import printable

HIDDEN = "***"
MIN_SECRET_LENGTH = 6  # characters; redacting shorter secrets would make lines unreadable

_NAME = r"(?:api[_-]?key|apikey|access[_-]?token|auth[_-]?token|token|secret|password|passwd|pwd)"
_FIELD = re.compile(rf"(?:^|[_-])(?:authorization|cookie|{_NAME})$", re.IGNORECASE)
# Not our own marker, nor prose after a setting's name: "set SESSION_SECRET: a restart ends it",
# "auth.token: SHOP_KEY is not set", "… is in the operator's environment (write secret:NAME)".
_NO_VALUE = (
    r"\(hidden\)|(?:an?|the|is|not|to|of|it)\s|NAME\)"
    r"|(?:secret:)?\w+(?:, secret:\w+)*\sis\s"
    r"(?:not\sset|in\sthe\soperator's\senvironment|in\san\sorganisation's\sstore)"
)
_VALUE = rf"(?!{_NO_VALUE})[^\s&'\",;}}]+"
_SIGN = r"['\"]?\s*[=:]\s*['\"]?"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=://)[^/\s'\"]+@"), f"{HIDDEN}@"),
    # Where the text was cut within a password. A port is none.
    (re.compile(r"(?<=://)[^/\s'\"\[:]*:(?!\d*$)[^/\s'\"]+$"), HIDDEN),
    (re.compile(r"\brc_[0-9A-Za-z]+(?:_[0-9A-Za-z_-]*)?"), f"rc_{HIDDEN}"),
    (re.compile(r"([?&]once=)[\w-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"\b([Bb]earer|Basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(rf"({_NAME}{_SIGN}){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(authorization{_SIGN})(?!Bearer|Basic){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
)
# Of the same few names and values, most lines consist.
MAX_KNOWN_VALUES = 2_048
MAX_KNOWN_LENGTH = 100  # characters
MAX_FIELD_LENGTH = 10_000  # characters of a text in a line: ten million block the loop for seconds
MAX_TRACEBACK_LENGTH = 10_000  # characters of its beginning, and of its end
_TRACEBACKS = frozenset({"exception", "stack"})
# A cheap first test: most lines match none of these.
_SUSPECT = re.compile(rf"://|rc_|once=|bearer|basic|authorization|{_NAME}", re.IGNORECASE)


_ESCAPE = re.compile(r"%[0-9A-F]{2}")


@lru_cache(MAX_KNOWN_VALUES)
def names_a_secret(field: str) -> bool:
    return _FIELD.search(field) is not None


def encoded(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return every encoding of these secrets that a URL, a page or JSON may contain, longest first.

    Longest first, because one may be part of another.
    """
    given = set(secrets)
    forms = {form for s in given for form in (s, quote(s), quote_plus(s), quote(s, safe=""))}
    forms |= {form for s in given for form in (s.replace("/", "\\/"), escape(s))}
    forms |= {json.dumps(s, ensure_ascii=plain)[1:-1] for s in given for plain in (True, False)}
    forms |= {_ESCAPE.sub(lambda found: found[0].lower(), form) for form in forms}
    return tuple(sorted(forms, key=len, reverse=True))


def text(value: str, secrets: Sequence[str] = ()) -> str:
    """Return the text with secrets replaced by `HIDDEN`. `secrets`: the known ones, verbatim."""
    for secret in secrets:
        if secret in value:
            value = value.replace(secret, HIDDEN)
    if not _SUSPECT.search(value):
        return value
    for pattern, replacement in _PATTERNS:
        value = pattern.sub(replacement, value)
    return value


def _remembering(step: Callable[[str], str]) -> Callable[[str], str]:
    known = lru_cache(MAX_KNOWN_VALUES)(step)
    return lambda value: known(value) if len(value) <= MAX_KNOWN_LENGTH else step(value)


def _bounded(step: Callable[[str], str]) -> Callable[[str], str]:
    def bounded(value: str) -> str:
        if len(value) <= MAX_FIELD_LENGTH:
            return step(value)
        # A secret across the cut is known as a whole.
        return step(value[: 2 * MAX_FIELD_LENGTH])[:MAX_FIELD_LENGTH] + "…"

    return bounded


def _traceback(hide: Callable[[str], str], value: str) -> str:
    """The lines of a traceback, without its middle if it is long: an error's text may be 100 MB."""
    most = MAX_TRACEBACK_LENGTH
    if len(value) > 2 * most:
        value = f"{hide(value[: 2 * most])[:most]}\n…\n{hide(value[-2 * most :])[-most:]}"
    return printable.lines(hide(value))


def text_redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return `text` with these known secrets, in every encoding.

    Those shorter than MIN_SECRET_LENGTH characters are ignored.
    """
    known = encoded(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH)
    return lambda value: text(value, known)


def redactor(secrets: Iterable[str] = ()) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a function that redacts the fields of a log event, at any depth.

    Every text becomes one line without control characters, and is cut after MAX_FIELD_LENGTH;
    tracebacks keep their lines.
    """
    hide = text_redactor(secrets)
    line = _bounded(_remembering(lambda value: printable.line(hide(value))))

    def clean(value: object) -> object:
        if isinstance(value, str):
            return line(value)
        if isinstance(value, Mapping):
            return fields(cast("Mapping[str, Any]", value))
        if isinstance(value, list | tuple | set | frozenset):
            return [clean(part) for part in cast("Sequence[object]", value)]
        if value is None or isinstance(value, bool | int | float):
            return value
        return line(str(value))

    def field(name: str, value: object) -> object:
        if value and names_a_secret(name):
            return HIDDEN
        if name in _TRACEBACKS and isinstance(value, str):
            return _traceback(hide, value)
        return clean(value)

    def fields(event: Mapping[str, Any]) -> dict[str, Any]:
        return {name: field(str(name), value) for name, value in event.items()}

    return fields
