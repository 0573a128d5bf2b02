"""lxml, which brings no types of its own: taken in here, and for what it is."""

from importlib import import_module
from typing import Any, TypeGuard

etree: Any = import_module("lxml.etree")
html: Any = import_module("lxml.html")


def is_element(value: Any) -> TypeGuard[Any]:
    """Whether it is an element, and not a text, a number or a truth."""
    return isinstance(value, etree._Element)  # noqa: SLF001 - the class has no other name
