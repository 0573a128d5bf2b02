"""That the benchmark of webhooks runs and finds nothing missing. Nothing is timed here."""

import json

import pytest

from scripts.bench import webhooks


@pytest.mark.timeout(240)
def test_nothing_is_missing_or_doubled_at_receivers_with_faults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = webhooks.main(["--receivers", "20", "--seconds", "4", "--workers", "1", "--json"])

    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0, figures
    assert figures["changes"] > 0
    assert figures["missing"] == figures["doubled"] == figures["unaccounted"] == 0
