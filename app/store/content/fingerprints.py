"""Fingerprints of odds events: 16-byte digests that detect unchanged records.

Equal fingerprints mean equal records. Unequal ones only mean that the records must be compared.
"""

from hashlib import blake2b

import msgspec

from app.core.records import OddsEvent

VERSION = 2
"""Raise it when the input of the digest changes: every event is then compared once."""

_encode = msgspec.msgpack.Encoder().encode


def fingerprint_of(event: OddsEvent) -> bytes:
    """Return the digest of names, competition, kick-off and all prices, in any order."""
    content = (
        VERSION,
        event.sportradar_id,
        event.country,
        event.competition,
        event.competition_id,
        event.home,
        event.away,
        event.kickoff,
        event.complete,
        sorted([price.text for price in event.prices]),
    )
    return blake2b(_encode(content), digest_size=16).digest()
