"""That every reader of the feed gets each change once beside writers. Nothing is timed here."""

import json

import pytest

from scripts.bench import feed


@pytest.mark.timeout(240)
def test_readers_get_every_change_once_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    code = feed.main(["--writers", "4", "--seconds", "3", "--json"])

    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0, figures
    assert figures["changes"] > 0
    assert set(figures["missing"]) == {"pages", "waits", "stream", "kind"}
