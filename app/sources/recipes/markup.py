"""lxml, imported untyped in one place, because it ships no type information."""

from importlib import import_module
from typing import Any, TypeGuard

etree: Any = import_module("lxml.etree")
html: Any = import_module("lxml.html")


def is_element(value: Any) -> TypeGuard[Any]:
    """Return whether `value` is an element; XPath also returns strings and numbers."""
    return isinstance(value, etree._Element)  # noqa: SLF001 - lxml exports the class under no public name
