"""The worker: `python -m app.workers`, or `arq app.workers.Settings`."""

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.workers.settings import Settings


def __getattr__(name: str) -> "type[Settings]":
    # Imported when arq asks for it, without the collector, which takes a seventh of the imports:
    # they leave nothing to collect.
    if name != "Settings":
        raise AttributeError(name)
    gc.disable()
    try:
        from app.workers.settings import Settings  # noqa: PLC0415 - as above

        return Settings
    finally:
        gc.enable()
