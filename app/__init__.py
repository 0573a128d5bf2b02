"""Rollcall. Importing any part of it makes zoneinfo read the `tzdata` wheel only."""

import app.core.lazy_import  # pyright: ignore[reportUnusedImport] - before redis is imported
import app.core.zone_data  # noqa: F401  # pyright: ignore[reportUnusedImport] - for its effect
