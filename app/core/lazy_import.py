"""Modules that are executed at their first attribute: texts of help need few, others hardly any."""

import sys
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader, find_spec
from types import ModuleType
from typing import Any

# redis imports PyJWT, and with it cryptography (15 MB, a tenth of a start), for tokens of Entra ID.
HARDLY_USED = ("jwt",)
# The command line of httpx, for which it imports rich; httpx does without if it is not there.
UNUSED = ("httpx._main",)

# Held by threads that compile Python while another may: up to 3.11.3, two at once fail with
# SystemError (https://github.com/python/cpython/issues/106905).
COMPILING = threading.Lock()


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


class _LazyFinder:
    """Finds the modules of `packages`, to be executed at their first attribute."""

    def __init__(self, packages: Collection[str]) -> None:
        self.packages = packages
        self.found: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` says."""
        if name.partition(".")[0] not in self.packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
            self.found.append(name)
        return spec


@contextmanager
def deferred(*packages: str) -> Generator[Callable[[], None]]:
    """Let imports of these packages meanwhile only find modules, as far as no attribute is read.

    Yields a function that executes those that are still to be: modules are not to be executed by
    two threads at once.
    """
    finder = _LazyFinder(packages)

    def execute() -> None:
        for name in finder.found:
            getattr(sys.modules.get(name), "__doc__", None)

    sys.meta_path.insert(0, finder)
    try:
        yield execute
    finally:
        sys.meta_path.remove(finder)


for _name in HARDLY_USED:
    defer(_name)
for _name in UNUSED:
    sys.modules.setdefault(_name, None)  # pyright: ignore[reportArgumentType] - as above
