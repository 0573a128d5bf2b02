"""JSON as programs write it, beyond what the strict parser takes. Pure."""

import json
import re
from decimal import Decimal
from typing import Any

_GUARD = re.compile(r"\s*\)\]\}',?\s*\n")  # sent before JSON so that no page runs it as a script


def parse(text: str) -> Any:
    """Return the value in a JSON text. Raises ValueError if it is not JSON, RecursionError.

    As in browsers, `NaN` is null. Lone surrogates and unescaped control characters stay in their
    strings. Numbers with a fraction are decimals.
    """
    return json.loads(
        _GUARD.sub("", text, count=1),
        parse_float=exact_number,
        parse_constant=_constant,
        strict=False,
    )


def exact_number(written: str) -> Decimal | str:
    """Return a number as a decimal; as it is written if no decimal has such an exponent."""
    try:
        return Decimal(written)
    except ArithmeticError:
        return written


def _constant(name: str) -> Decimal | None:
    return None if name == "NaN" else Decimal(name)
