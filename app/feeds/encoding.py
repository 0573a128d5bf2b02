"""From bytes to text: which encoding a feed is in, whatever it says."""

import codecs
import re
from collections.abc import Iterator, Mapping

from app.errors import Schema

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    # XML 1.0, appendix F: `<` in four bytes or two, without a mark.
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_DECLARED = re.compile(rb"""\s{0,100}<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
# Those that feeds are written in. No UTF-7, which hides markup, and no codec that is no encoding.
_KNOWN = re.compile(
    r"utf-(8|16|32)|utf-(16|32)-[lb]e|ascii|iso8859-\d+|cp(125\d|437|850|866|874|932|949|950)"
    r"|koi8-[rut]|mac-\w+|shift_jis\w*|euc_\w+|gb\w+|big5\w*|iso2022_\w+|tis-620|hz|johab|ptcp154"
)
_NARROW = re.compile(r"ascii|iso8859-\d+|cp125\d|mac-\w+|koi8-\w")  # every byte is a letter in them

# As browsers do: who says the one means the other, which has all of it and more.
_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_RARE = 4  # letters that are as they should be, for each that is not


def decoded(body: bytes, headers: Mapping[str, str]) -> tuple[str, str | None]:
    """The text of a body, and what was wrong with what it says of its encoding.

    A byte order mark goes before what the feed declares, that before the Content-Type, that before
    UTF-8; but bytes that are UTF-8 are not taken for letters of an alphabet of one byte each.
    Raises Schema if it is in none of them.
    """
    marked = next((name for mark, name in _MARKS if body.startswith(mark)), None)
    if marked is not None:
        return _by_mark(body, marked), None
    said = list(_said(body, headers))
    for name in (*said, "utf-8"):
        if _NARROW.fullmatch(name) and _is_utf8(body):
            return body.decode(), f"it says that it is in {name}, but it is in utf-8"
        text = _tried(body, name)
        if text is not None:
            first = said[0] if said else "utf-8"
            return text, None if name == first else f"it is not in {first}; read as {name}"
    first = said[0] if said else "utf-8"
    text = _mended(body) if first == "utf-8" else None
    if text is not None:
        return text, "some bytes of it are not utf-8; they are shown as \ufffd"
    text = _tried(body, "cp1252")
    if text is None:
        raise Schema(f"the feed is not in {first}, which it says it is in")
    return text, f"it is not in {first}; read as windows-1252"


def _mended(body: bytes) -> str | None:
    """The text of a body that is UTF-8 but for a few bytes, as of a letter that was cut in two."""
    text = body.decode(errors="replace")
    holes = text.count("\ufffd")
    letters = sum(not character.isascii() for character in text) - holes
    return text if letters > holes * _RARE else None


def _by_mark(body: bytes, name: str) -> str:
    try:
        return body.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Schema(f"the feed begins as {name}, but is not: {error.reason}") from None


def _said(body: bytes, headers: Mapping[str, str]) -> Iterator[str]:
    declared = _DECLARED.match(body)
    charset = _CHARSET.search(headers.get("content-type", ""))
    names = (declared and declared[1].decode("ascii"), charset and charset[1])
    for name in filter(None, names):
        known = _codec(name)
        if known is not None:
            yield known


def _codec(name: str) -> str | None:
    try:
        known = codecs.lookup(name).name
    except LookupError:
        return None
    if known.startswith(("utf-16", "utf-32")):
        return None  # then there would be a mark, or zeros
    return known if _KNOWN.fullmatch(known) else None


def _tried(body: bytes, name: str) -> str | None:
    try:
        return body.decode(_WIDER.get(name, name))
    except UnicodeError:
        return None


def _is_utf8(body: bytes) -> bool:
    try:
        return not body.isascii() and bool(body.decode())
    except UnicodeDecodeError:
        return False
