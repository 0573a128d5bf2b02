"""The production worker without the sites' rate limits, for the soak benchmark."""

import arq.worker

from app.core.config import Config
from app.core.messages import HostLimits
from workers import registry

LIFTED = HostLimits(rate=100_000, burst=10_000, concurrency=8)

known = registry.source_limits


def lifted(config: Config) -> dict[str, HostLimits]:
    """Return the limits of every source, lifted."""
    return dict.fromkeys(known(config), LIFTED)


if __name__ == "__main__":
    registry.source_limits = lifted
    from app.workers import Settings  # importing it reads the environment

    arq.worker.run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does
