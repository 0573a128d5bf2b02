"""The worker as production starts it, but that sites may be asked as fast as they answer."""

import arq.worker

from app.config import Config
from app.messages import Limits
from workers import catalogue

LIFTED = Limits(rate=100_000, burst=10_000, concurrency=8)

known = catalogue.limits


def lifted(config: Config) -> dict[str, Limits]:
    """The sources, without what they must keep to in the real world."""
    return dict.fromkeys(known(config), LIFTED)


if __name__ == "__main__":
    catalogue.limits = lifted
    from app.workers import Settings  # the front door reads the environment

    arq.worker.run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does
