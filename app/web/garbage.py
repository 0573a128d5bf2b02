"""The settings of Python's garbage collector for the web process."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

# Objects made before cycles among them are looked for. A large page makes some ten thousand, none
# of them in a cycle: with Python's 700, up to a fifth of its time was spent on looking.
NEW_OBJECTS = 5_000


def spare_imports() -> None:
    """Leave what exists now, which is modules, out of all collections, and collect less often.

    For a process that serves until it ends. A full collection would walk all modules, which takes
    100 ms while a page is drawn.
    """
    gc.freeze()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, middle, old)


@contextmanager
def importing() -> Generator[None]:
    """Collect nothing meanwhile, and spare what was imported afterwards."""
    gc.disable()
    try:
        yield
    finally:
        spare_imports()
        gc.enable()
