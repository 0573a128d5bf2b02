"""ALERT_ROUTES: which alerts go to which notifiers, by job and severity. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from app.core.enums import AlertSeverity

_SEPARATOR = re.compile(r"\s;\s|\n")
_ANY = "*"
_FORM = "must be `jobs severities URL…`, several separated by ` ; `"


@dataclass(frozen=True, slots=True)
class AlertRoute:
    """What a notifier gets: alerts of jobs that match one of the patterns, of these severities."""

    jobs: tuple[str, ...] = (_ANY,)
    severities: frozenset[AlertSeverity] = frozenset(AlertSeverity)

    def takes(self, job: str, severity: AlertSeverity) -> bool:
        """Return whether an alert of this job and severity goes this way."""
        return severity in self.severities and any(fnmatchcase(job, one) for one in self.jobs)


def taken(routes: Iterable[AlertRoute], job: str, severity: AlertSeverity) -> bool:
    """Return whether one of the routes takes the alert."""
    return any(route.takes(job, severity) for route in routes)


def parse(text: str) -> list[tuple[AlertRoute, str]]:
    """Return each route with the URL of its notifier. Raises ValueError, without the URLs."""
    found: list[tuple[AlertRoute, str]] = []
    for part in filter(str.strip, _SEPARATOR.split(text)):
        words = part.split()
        urls = words[2:]
        if not urls or any("://" not in url for url in urls) or "://" in words[0] + words[1]:
            raise ValueError(_FORM)
        route = AlertRoute(tuple(filter(None, words[0].split(","))), _severities(words[1]))
        if not route.jobs:
            raise ValueError(_FORM)
        found += [(route, url) for url in urls]
    return found


def _severities(text: str) -> frozenset[AlertSeverity]:
    if text == _ANY:
        return frozenset(AlertSeverity)
    known = ", ".join(AlertSeverity)
    try:
        return frozenset(AlertSeverity(name) for name in text.split(","))
    except ValueError:
        raise ValueError(f"names a severity that is not one of {known} (or *)") from None
