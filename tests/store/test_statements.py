"""Statements that say the same do so in the same words."""

from app.store.reports import health, org_alerts


def _state(statement: str) -> str:
    begin, end = statement.index("CASE WHEN NOT s.enabled"), statement.index(" END AS state")
    return " ".join(statement[begin:end].split())


def test_collections_are_counted_and_alerted_by_the_same_states() -> None:
    assert _state(health.COUNTED) == _state(org_alerts.JUDGED_COLLECTIONS)
