"""Detection of a feed's encoding, and decoding, also where the declared encoding is wrong."""

import codecs
import json
import re
from collections.abc import Iterator, Mapping

from app.core.errors import Schema

_SIGNATURES = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    # XML 1.0, appendix F: `<` in four bytes or two, without a byte order mark.
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_DECLARED = re.compile(rb"""\s{0,100}<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
# Encodings in use. Excludes UTF-7, which hides markup, and Python codecs that are not encodings.
_SUPPORTED = re.compile(
    r"utf-(8|16|32)|utf-(16|32)-[lb]e|ascii|iso8859-\d+|cp(125\d|437|850|866|874|932|949|950)"
    r"|koi8-[rut]|mac-\w+|shift_jis\w*|euc_\w+|gb\w+|big5\w*|iso2022_\w+|tis-620|hz|johab|ptcp154"
)
_SINGLE_BYTE = re.compile(r"ascii|iso8859-\d+|cp125\d|mac-\w+|koi8-\w")  # any byte decodes in these

# As in browsers: the declared encoding is replaced by its superset.
_SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_MIN_VALID_PER_INVALID = 4  # valid non-ASCII letters required for each replacement character


def decode(body: bytes, headers: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the text of a body, and what is wrong with its declared encoding, if anything.

    Precedence: byte order mark, XML declaration, Content-Type, UTF-8. Valid UTF-8 is never decoded
    as a single-byte encoding. `headers` have lower-case names.
    Raises Schema if no encoding fits.
    """
    signature = next((name for mark, name in _SIGNATURES if body.startswith(mark)), None)
    if signature is not None:
        return _decode_marked(body, signature), None
    declared_names = list(_declared_encodings(body, headers))
    for name in (*declared_names, "utf-8"):
        if _SINGLE_BYTE.fullmatch(name) and _is_utf8(body):
            return body.decode(), f"it declares the encoding {name}, but is utf-8"
        text = _try_decode(body, name)
        if text is not None:
            first = declared_names[0] if declared_names else "utf-8"
            return text, None if name == first else f"it is not valid {first}; decoded as {name}"
    first = declared_names[0] if declared_names else "utf-8"
    text = _decode_with_errors(body) if first == "utf-8" else None
    if text is not None:
        return text, "it contains bytes that are not valid utf-8; they are replaced by \ufffd"
    text = _try_decode(body, "cp1252")
    if text is None:
        raise Schema(f"the feed is not valid {first}, its declared encoding")
    return text, f"it is not valid {first}; decoded as windows-1252"


def decode_json(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the text of a JSON body: by its byte order mark or zero bytes, its charset, or UTF-8.

    Raises Schema if it is not valid in that encoding.
    """
    charset = _CHARSET.search(headers.get("content-type", ""))
    name = (charset and _codec(charset[1])) or json.detect_encoding(body)
    if any(body.startswith(mark) for mark, _ in _SIGNATURES) or b"\0" in body[:4]:
        name = json.detect_encoding(body)
    elif _SINGLE_BYTE.fullmatch(name) and _is_utf8(body):
        name = "utf-8"
    try:
        return body.decode(_SUPERSETS.get(name, name))
    except UnicodeError as error:
        raise Schema(f"it is not valid {name}: {error}") from None


def detect_html(body: bytes) -> str:
    """Return the encoding of an HTML page that declares none, as browsers guess it."""
    is_utf8 = body.isascii() or _is_utf8(body) or _decode_with_errors(body) is not None
    return "utf-8" if is_utf8 else "cp1252"


def _decode_with_errors(body: bytes) -> str | None:
    """Decode a body that is UTF-8 except for a few bytes, such as a truncated character."""
    text = body.decode(errors="replace")
    invalid = text.count("\ufffd")
    letters = sum(not character.isascii() for character in text) - invalid
    return text if letters > invalid * _MIN_VALID_PER_INVALID else None


def _decode_marked(body: bytes, name: str) -> str:
    try:
        return body.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Schema(f"the feed begins as {name}, but is not valid: {error.reason}") from None


def _declared_encodings(body: bytes, headers: Mapping[str, str]) -> Iterator[str]:
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
        return None  # these have a byte order mark or zero bytes, checked before
    return known if _SUPPORTED.fullmatch(known) else None


def _try_decode(body: bytes, name: str) -> str | None:
    try:
        return body.decode(_SUPERSETS.get(name, name))
    except UnicodeError:
        return None


def _is_utf8(body: bytes) -> bool:
    try:
        return not body.isascii() and bool(body.decode())
    except UnicodeDecodeError:
        return False
