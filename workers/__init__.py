"""Jobs and the processes of a worker. Importing any part of it imports `app` before `redis`."""

import app  # noqa: F401  # pyright: ignore[reportUnusedImport] - for its effect
