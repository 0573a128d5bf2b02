"""Modules that a dependency imports and hardly ever uses: executed at their first attribute."""

import sys
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


for _name in HARDLY_USED:
    defer(_name)
