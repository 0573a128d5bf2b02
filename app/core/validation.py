"""Faults that pydantic finds, as sentences about what a person wrote."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from pydantic_core import ErrorDetails

# Of a secret, whose characters pydantic counts as items.
_LENGTH_OF_SECRET = re.compile(r"Value should have (at least|at most) (\d+) items? after .*")


def fault_sentence(fault: ErrorDetails) -> str:
    """Return what is wrong, without the name of the field and without pydantic's own terms."""
    if fault["type"] == "extra_forbidden":
        return "is not known here"
    message = fault["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    return _LENGTH_OF_SECRET.sub(r"must have \1 \2 characters", message)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant, as a question, or else all of them."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
