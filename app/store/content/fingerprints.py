"""Fingerprints of odds events: 16-byte digests that detect unchanged records.

Equal fingerprints mean equal records. Unequal ones only mean that the records must be compared.
"""

from hashlib import blake2b

import msgspec

from app.core.records import OddsEvent

VERSION = b"1"
"""Raise it when the input of the digest changes: every event is then compared once."""

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


def fingerprint_of(event: OddsEvent) -> bytes:
    """Return the digest of names, competition, kick-off and all prices, in any order."""
    digest = blake2b(VERSION, digest_size=16)
    digest.update(
        _encode(
            (
                event.sportradar_id,
                event.country,
                event.competition,
                event.competition_id,
                event.home,
                event.away,
                event.kickoff,
                event.complete,
            )
        )
    )
    digest.update(b"".join(sorted(map(_encode, event.prices))))
    return digest.digest()
