"""Modules that a dependency imports and hardly ever uses: executed at their first attribute."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# redis imports PyJWT, and with it cryptography (15 MB, a tenth of a start), for tokens of Entra ID.
HARDLY_USED = ("jwt",)


class DeferredModule(ModuleType):
    """Stands for a module until an attribute of it is read."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = import_module(self.__name__)
        self.__dict__.update(module.__dict__)
        return getattr(module, name)


def defer(name: str) -> None:
    """Let a later `import name` return a module that is executed when an attribute is read."""
    if name not in sys.modules and find_spec(name) is not None:
        sys.modules[name] = DeferredModule(name)


@contextmanager
def hidden(name: str) -> Generator[None]:
    """Let imports of that module fail meanwhile, for a dependency that can do without it."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # pyright: ignore[reportArgumentType] - what importlib defines for it
    try:
        yield
    finally:
        del sys.modules[name]


for _name in HARDLY_USED:
    defer(_name)
