"""Fingerprints: whether a record says what the last one of the same event said, told in 16 bytes.

Equal fingerprints mean equal records. Unequal ones mean only that somebody has to look.
"""

from hashlib import blake2b

import msgspec

from app.records import OddsEvent

VERSION = b"1"
"""To be raised when what goes into a fingerprint changes: then every event is looked at once."""

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


def of(event: OddsEvent) -> bytes:
    """What the event says: names, competition, kick-off, and all prices in whatever order."""
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
