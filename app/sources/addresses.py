"""URLs as browsers read them: resolved, completed with parameters, and compared by their origin."""

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote_plus, urljoin, urlsplit

NO_PAGE_SCHEMES = ("javascript:", "data:", "about:", "blob:", "vbscript:")
"""Schemes of links that lead to no page: scripts and placeholders."""

_PORTS = {"http": 80, "https": 443}
_LINE_BREAKS = re.compile(r"[\t\r\n]+[ \t]*")


def resolve(base: str, address: str) -> str | None:
    """Return `address` as an absolute http or https URL, resolved against `base`; None if invalid.

    As in the WHATWG URL standard: blanks around it and line breaks are dropped, a blank in it
    becomes `%20`, and `\\` separates like `/`. Escapes stay as they are written.
    """
    written = _LINE_BREAKS.sub("", address.strip(" \t\r\n\f\0\u00a0"))
    path = re.split(r"[?#]", written, maxsplit=1)[0]
    try:
        whole = urljoin(base, path.replace("\\", "/") + written[len(path) :])
        parts = urlsplit(whole)
        usable = (
            parts.scheme in _PORTS
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return None
    if not usable or any(c.isspace() or not c.isprintable() for c in parts.netloc):
        return None
    return "".join(c if c.isprintable() and c != " " else quote(c, errors="replace") for c in whole)


def with_params(url: str, params: Sequence[tuple[str, str]]) -> str:
    """Return `url` with `params` added; they replace its own parameters of the same names.

    The rest of the query stays as it is written: its order, escapes and empty parts may be signed.
    """
    if not params:
        return url
    bare, hash_mark, fragment = url.partition("#")
    path, _, query = bare.partition("?")
    names = {name for name, _ in params}
    kept = [part for part in query.split("&") if _name(part) not in names] if query else []
    added = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params]
    return f"{path}?{'&'.join([*kept, *added])}{hash_mark}{fragment}"


def without_params(url: str, names: Sequence[str]) -> str:
    """Return `url` without its parameters of these names; the rest stays as it is written."""
    path, mark, query = url.partition("?")
    kept = "&".join(part for part in query.split("&") if _name(part) not in names)
    return f"{path}{mark if kept else ''}{kept}"


def _name(part: str) -> str:
    return unquote_plus(part.partition("=")[0])


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL; a host and its punycode are one. Raises ValueError."""
    parts = urlsplit(url)
    host = ".".join(_label(label) for label in (parts.hostname or "").rstrip(".").split("."))
    return parts.scheme, host, parts.port or _PORTS.get(parts.scheme)


def _label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label.removeprefix("xn--").encode("ascii").decode("punycode")
    except UnicodeError:
        return label
