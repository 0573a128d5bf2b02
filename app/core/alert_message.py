"""A message about health, as it is composed, stored and sent."""

from dataclasses import dataclass

from app.core.enums import AlertSeverity


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """A message as it is sent, in plain text.

    `incident`: the one problem that it is about, if it is about one.
    """

    title: str
    body: str
    severity: AlertSeverity = AlertSeverity.FAILURE
    incident: str | None = None
