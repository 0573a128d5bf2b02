"""The thresholds of health as configured."""

from app.core.config import Config
from app.health.judge import Rules


def of(config: Config) -> Rules:
    """The thresholds that the settings configure."""
    return Rules(
        failing_after=config.health_failing_after,
        recovered_after=config.health_recovered_after,
        skips=config.health_skips,
        fresh={job: minutes * 60 for job, minutes in config.fresh_minutes.items()},
    )
