"""Checks of the settings and the recipes, which need no server."""

from collections.abc import Collection, Sequence

from app.core import config as settings
from app.core.config import Config
from app.core.enums import COLLECTION_TASK
from app.core.setting_types import pings
from app.core.validation import suggestion
from app.health.alerts import send
from app.health.alerts.send import Notifiers
from app.health.findings import Finding, fault, ok, warning


def of_settings(config: Config) -> list[Finding]:
    """Findings about the values of the settings."""
    private = [
        n for n, url in (("Postgres", config.database_url), ("Redis", config.redis_url)) if not url
    ]
    found = [ok("settings", "all are valid"), *of_names()]
    if private:
        message = f"a private {' and '.join(private)} under {config.data_dir}"
        found.append(
            warning("servers", message, "fine for one machine; set DATABASE_URL and REDIS_URL")
        )
    if not config.contact:
        fix = "set CONTACT to an address where a site can reach you"
        found.append(warning("contact", "requests to sites carry no contact address", fix))
    urls = Notifiers.from_settings(config.alert_urls, config.alert_routes).urls.values()
    if urls:
        fix = "correct it in ALERT_URLS or ALERT_ROUTES: no alert is sent there"
        found += [fault("alerts", message, fix) for message in send.unsupported(urls)]
    if config.clock_skew_seconds:
        message = f"CLOCK_SKEW_SECONDS is {config.clock_skew_seconds:g}"
        found.append(fault("clock", message, "it is for tests only: remove it"))
    return found


def of_names() -> list[Finding]:
    """A warning for each variable that is nearly the name of a setting, and so has no effect."""
    return [
        warning("spelling", f"{name} in {where} is not a setting", f"did you mean {meant}?")
        for name, where, meant in settings.misspelt()
    ]


def of_references(config: Config, jobs: Collection[str], sources: Collection[str]) -> list[Finding]:
    """A warning for each name in a setting that no job or source has: the entry has no effect.

    Collections, and the recipes of organisations, are in the database and not in the settings.
    """
    named = [
        *(("FRESH_MINUTES", name, jobs) for name in config.fresh_minutes),
        *(("PING_URLS", name, jobs) for name in pings(config.ping_urls)),
        *(("MONTHLY_REQUESTS", name, sources) for name in config.monthly_requests),
    ]
    return [
        warning("names", f"{setting} names {name}, which is not known", suggestion(name, known))
        for setting, name, known in named
        if name not in known and name.partition(":")[0] not in (COLLECTION_TASK, "recipe")
    ]


def of_credentials(disabled: Sequence[tuple[str, str]]) -> list[Finding]:
    """A warning for each disabled job. `disabled`: the jobs with the reason."""
    return [
        warning("credentials", f"{job} is disabled: {why}", "set it, if the job should run")
        for job, why in disabled
    ]


def of_recipes(faults: Sequence[str]) -> list[Finding]:
    """A fault for each fault of a recipe: the recipe is not run."""
    fix = "correct it: `rollcall source lint`"
    return [fault("recipe", one, fix) for one in faults]
