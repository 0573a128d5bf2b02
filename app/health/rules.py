"""The thresholds of health as configured."""

from app.core.config import Config
from app.health.judge import HealthRules


def rules_from_config(config: Config) -> HealthRules:
    """The thresholds that the settings configure."""
    return HealthRules(
        failing_after=config.health_failing_after,
        recovered_after=config.health_recovered_after,
        skips=config.health_skips,
        fresh={job: minutes * 60 for job, minutes in config.fresh_minutes.items()},
    )
