"""Faults that pydantic finds, as sentences about what a person wrote."""

import re

from pydantic_core import ErrorDetails

# Of a secret, whose characters pydantic counts as items.
_LENGTH_OF_SECRET = re.compile(r"Value should have (at least|at most) (\d+) items? after .*")


def fault_sentence(fault: ErrorDetails) -> str:
    """Return what is wrong, without the name of the field and without pydantic's own terms."""
    if fault["type"] == "extra_forbidden":
        return "is not known here"
    message = fault["msg"].removeprefix("Value error, ")
    return _LENGTH_OF_SECRET.sub(r"must have \1 \2 characters", message)
