"""What cannot be meant is refused with exit code 2 and a sentence: nothing is done."""

import getpass
from datetime import timedelta

import pytest

from app.store.db import Pool
from tests.commands.conftest import Rollcall
from tests.commands.rows import declare, words_of

HUGE = "9223372036854775808"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pause scrape --note <>", "say why"),
        ("pause scrape --note <  >", "say why"),
        ("pause scrape --note <a\nb>", "one line"),
        (f"pause scrape --note <{'x' * 501}>", "at most 500"),
        ("acknowledge scrape --note <>", "say why"),
        ("acknowledge scrape --note <a\nb>", "one line"),
        ("odds --json --csv", "contradict"),
        ("runs --follow --limit 5", "has no end"),
        ("replay bet9ja --since 1d --dry-run --yes", "writes nothing"),
        ("backfill scrape --from 1d --stop --missing", "runs nothing"),
        ("backfill scrape --from 1d --stop --concurrency 2", "runs nothing"),
        ("backfill scrape --from 1d --stop --yes", "asks and runs nothing"),
        ("token create --operator --data", "reads them anyway"),
        ("odds --from <>", "not an instant"),
        ("odds --to <>", "not an instant"),
        (f"odds --limit {HUGE}", "less than or equal"),
        ("odds --json history 1 1x2 home", "after `history`"),
        ("news --since nonsense stories", "after `stories`"),
        ("news --limit 5 stories", "after `stories`"),
        (f"news story {HUGE}", "less than or equal"),
        ("ticks scrape --since 1h --until 2h", "before --since"),
        ("ticks scrape --outcome ran --reason paused", "has no reason"),
        ("export runs /nonexistent/runs.csv --since 1h --until 2h", "before --since"),
        ("export runs <>", "not a file"),
        ("export runs /", "not a file"),
        ("login --base https://", "must name a host"),
        ("login --base <http://a b>", "must name a host"),
        ("login --base http://a:99999", "must name a host"),
        ("login --base https://x/?y=1", "must not contain ?"),
        ("login --base https://u:p@x", "user name"),
        (f"token create --operator --days {HUGE}", "less than or equal"),
        ("token create --operator --days inf", "less than or equal"),
        ("token create --operator --label <  >", "printable"),
        ("org limit Acme max_pages inf", "less than or equal"),
        ("org limit Acme max_mb 1e300", "less than or equal"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    rollcall: Rollcall, pool: Pool, words: str, said: str
) -> None:
    await declare(pool, timedelta())
    before, _, rest = words.partition("<")
    blank, _, after = rest.partition(">")
    typed = [*before.split(), *([blank] if rest else []), *after.split()]

    result = await rollcall(*typed)

    assert result.exit_code == 2, f"{result.output}\n{result.exception!r}"
    assert said in words_of(result.output)


async def test_an_account_without_a_name_can_make_a_token(
    rollcall: Rollcall, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nameless)

    result = await rollcall("token", "create", "--operator")

    assert result.exit_code == 0, repr(result.exception)
