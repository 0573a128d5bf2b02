"""That the benchmark of the web runs and says what it promises. Nothing is timed here."""

import json

import pytest

from scripts.bench import web


def test_it_prints_ours_and_bare_with_rps_and_p99_as_one_object(
    capsys: pytest.CaptureFixture[str],
) -> None:
    web.main(["--rounds", "1", "--seconds", "0.2", "--connections", "5", "--json"])

    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"ours", "bare"} <= found.keys()
    assert all(set(figures) == {"rps", "p99_ms"} for figures in found.values())
    assert all(figures["rps"] > 0 for figures in found.values())
