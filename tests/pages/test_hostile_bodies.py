"""Whatever bytes a site sends as its JSON: a classified failure that is written down, no more."""

from typing import Any

import pytest
from arq.connections import ArqRedis

from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.fetch.hostile import Visit, serving

DEEP = 100_000
ENVELOPES = b'{"bizCode": %s, "data": %s, "message": %s, "responses": %s, "R": %s, "D": %s}'


def everywhere(value: bytes) -> bytes:
    """`value` wherever one of the three sites looks."""
    return ENVELOPES % ((value,) * 6)


def inside(value: bytes) -> bytes:
    """`value` as the data of envelopes that are well."""
    pal = b'{"PAL": {"1": %s}}' % value
    return ENVELOPES % (b"10000", value, b'""', b'[{"responses": %s}]' % value, b'"OK"', pal)


BODIES = {
    "100000 arrays deep": b"[" * DEEP + b"]" * DEEP,
    "100000 objects deep": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep where data is due": inside(b"[" * DEEP + b"]" * DEEP),
    "deep in objects where data is due": inside(b'{"events":' * DEEP + b"1" + b"}" * DEEP),
    "deep in what is skipped": b'{"x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "NaN": everywhere(b"NaN"),
    "Infinity": inside(b"-Infinity"),
    "2^63": everywhere(b"9223372036854775808"),
    "a number of 5000 digits": everywhere(b"9" * 5_000),
    "NUL bytes": b"\0" * 1_000,
    "NUL in what is told": everywhere(rb'"a\u0000b"'),
    "half a surrogate pair": everywhere(rb'"\ud800"'),
    "windows-1252": everywhere('"café"'.encode("cp1252")),
    "UTF-16": everywhere(b"1").decode().encode("utf-16"),
    "nothing but a number": b"1",
    "NUL in the catalogue": inside(rb'{"SG": {"1": {"G": {"a\u0000": {}}}}}'),
    "an error with NUL": rb'{"bizCode": 19000, "message": "no\u0000thing", "R": "E\u0000"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_hostile_body_is_a_failure_of_its_source_that_is_written_down(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin, body: bytes
) -> None:
    async def hostile(visit: Visit) -> None:
        await visit.answer(body=body)

    async with serving(hostile) as base:
        urls: dict[str, Any] = {
            f"{name}_url": f"{base}/{name}" for name in ("sportybet", "betpawa", "bet9ja")
        }
        config = config_for(dsn, redis_url, standin, **urls)
        async with worker_harness.opened(config, redis) as context:
            run_id = await worker_harness.perform(context)
            run = await worker_harness.run_row(context.pool, run_id)
            rows = await worker_harness.source_rows(context.pool, run_id)

    assert run["status"] == "failure"
    assert {row["error_kind"] for row in rows.values()} <= {"schema", "api_error"}
    assert {row["status"] for row in rows.values()} == {"failure"}
    assert len(rows) == 3
