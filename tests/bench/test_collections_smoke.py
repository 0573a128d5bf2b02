"""That the benchmark of collections executes every due one. Nothing is timed here."""

import json

import pytest

from scripts.bench import collection_runs


@pytest.mark.timeout(240)
def test_every_due_collection_is_executed_once(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--organizations", "12", "--large", "1", "--per-large", "5", "--timeout", "180")
    code = collection_runs.main([*options, "--json"])

    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0, figures
    assert (figures["collections"], figures["ended"]) == (16, 16)
    assert figures["requests"] >= 16
    assert set(figures["waiting"]) == {"small", "large"}
