"""One event, one line, in one shape, and no secret in any of them."""

import asyncio
import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from typing import Any, cast

import apprise
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.core import log, redact
from app.core.config import Config
from tests.fetch.hostile import serving

SECRETS = {
    "a URL with a password": "postgresql://rollcall:hunter22@db/x",
    "a URL with a password that has an at sign": "redis://:p@hunter22@cache:6379/0",
    "a token as a user": "https://hunter22@hooks.example.org/x",
    "one of our tokens": "rc_0123456789abcdef0123456789abcdef_hunter22-abcdefghij",
    "a header": "Authorization: Bearer hunter22.abc",
    "a plain header": "authorization=hunter22",
    "basic credentials": "Basic aHVudGVyMjI6hunter22",
    "a query": "GET /x?api_key=hunter22&page=2",
    "another query": "/login?token=hunter22",
    "a value in JSON": '{"client_secret": "hunter22", "page": 2}',
    "a keyword": "password='hunter22'",
}


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is logged, as JSON."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config())
    log.configure("json", "info", {"s3cr3t-word", "x"})
    stream = io.StringIO()
    handler = cast("logging.StreamHandler[io.StringIO]", root.handlers[0])
    handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before[:2]
    structlog.configure(**before[2])


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_taken_out_of_the_event_its_fields_and_what_is_within_them(
    kind: str, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    text = SECRETS[kind]

    log.logger("test").warning("it.happened", error=text, deep={"a": [text]}, shown=KeyError(text))
    logging.getLogger("arq.worker").warning("it happened: %s", text)

    said = json.dumps(lines())
    assert "hunter22" not in said
    assert said.count(redact.HIDDEN) >= 4


def test_a_traceback_has_no_secret_either(lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        raise ValueError("cannot reach redis://:hunter22@cache s3cr3t-word")  # noqa: TRY301
    except ValueError:
        log.logger("test").exception("it.broke")

    (line,) = lines()
    assert "Traceback" in line["exception"]
    assert "hunter22" not in line["exception"]
    assert "s3cr3t-word" not in line["exception"]


def test_a_field_with_a_telling_name_is_hidden_whatever_is_in_it(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    log.logger("test").info("it.happened", authorization="abc", api_key="abc", token=b"abc", page=2)

    (line,) = lines()
    assert (line["authorization"], line["api_key"], line["token"]) == (redact.HIDDEN,) * 3
    assert line["page"] == 2


def test_every_secret_setting_is_known_word_for_word_with_the_password_within() -> None:
    config = Config(
        database_url=SecretStr("postgresql://me:hunter22@db/x"), asknews_api_key=SecretStr("key-1")
    )

    assert {"hunter22", "key-1", "postgresql://me:hunter22@db/x"} <= config.secrets()


def test_the_tokens_within_addresses_of_notifiers_and_pings_are_known_and_hosts_are_not() -> None:
    config = Config(
        alert_urls=SecretStr("slack://tokA1234567890/tokB1234567890 json://hooks.example.org/x"),
        ping_urls=SecretStr("poll=https://hc.example.org/5f2c0d2e-4bb2-4f53-9d3b-000000000000"),
    )

    secrets = config.secrets()

    assert {"tokA1234567890", "tokB1234567890"} <= secrets
    assert "5f2c0d2e-4bb2-4f53-9d3b-000000000000" in secrets
    assert not {"hooks.example.org", "hc.example.org", "json", "poll"} & secrets


def test_a_line_carries_what_is_bound_and_a_visit_of_uvicorn_looks_like_any_other(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    with structlog.contextvars.bound_contextvars(execution_id="e", job="j", attempt=1, worker="w"):
        log.logger("test").info("run.finished", status="success")
    visit = ("127.0.0.1:1", "GET", "/jobs?token=hunter22", "1.1", 200)
    probe = ("127.0.0.1:1", "GET", "/health/scheduler", "1.1", 503)
    for one in (visit, probe):
        logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *one)

    run, request = lines()
    assert {run[name] for name in ("execution_id", "job", "worker")} == {"e", "j", "w"}
    assert (run["event"], run["level"], run["logger"]) == ("run.finished", "info", "test")
    assert (request["event"], request["method"], request["status"]) == ("http.request", "GET", 200)
    assert request["path"] == "/jobs?token=***"
    assert {"timestamp", "level", "logger"} <= run.keys() & request.keys()


def test_what_a_site_says_cannot_forge_a_line_or_move_a_terminal() -> None:
    evil = "Evil\n2026-09-05 [info] run.finished\x1b[2J\x1b]0;title\x07\u202egpj"
    clean = redact.redactor()

    event = clean({"error": evil, "deep": [{evil: evil}], "exception": f"Traceback\n  {evil}"})

    assert event["error"] == event["deep"][0][evil]
    assert event["error"].startswith("Evil 2026-09-05")
    assert all(c.isprintable() for c in event["error"])
    assert event["exception"].startswith("Traceback\n  Evil")
    assert "\x1b" not in event["exception"]


@pytest.mark.parametrize("length", [8, 12, 15])
def test_the_password_of_a_url_is_hidden_where_the_text_was_cut_within_it(length: int) -> None:
    cut = "cannot reach postgres://me:" + "hunter22@db/x"[: length - 5]

    assert "hun" not in redact.text(cut)


def test_a_long_text_is_cut_in_a_line_and_has_no_part_of_a_secret() -> None:
    around = "x" * (redact.MAX_FIELD_LENGTH - 20)
    event = {"params": {"big": f"{around}://me:open_sesame@shop.example/{around}"}}

    (shown,) = redact.redactor()(event)["params"].values()

    assert len(shown) <= redact.MAX_FIELD_LENGTH + 10
    assert shown.endswith("…")
    assert "open" not in shown


def test_what_is_no_secret_is_left_as_it_is() -> None:
    for text in (
        "the page https://sports.example.org/a?b=1 said 404",
        "3 tokens of 2 sorts; basic facts",
        "run 12 of src_1 is at 10:00:05",
        "nothing listens at http://localhost:8080",
        "see http://[::1]:80",
        "https://example.org/a:b",
    ):
        assert redact.text(text) == text


@given(st.text(), st.text(min_size=6))
def test_a_known_secret_is_never_shown_wherever_it_stands(around: str, secret: str) -> None:
    shown = redact.redactor([secret])({"event": f"{around}{secret}{around}", "deep": [secret]})

    if secret not in redact.HIDDEN + around + redact.HIDDEN:
        assert secret not in shown["deep"][0]
    assert shown["deep"] == [redact.HIDDEN]


def test_a_one_time_login_is_not_written_out() -> None:
    said = redact.text("GET /login?once=XUG2eeIFOhvllQBpOOJODg&next=/ 303")

    assert said == "GET /login?once=***&next=/ 303"


def test_a_value_that_was_seen_before_is_redacted_again() -> None:
    clean = redact.redactor(["hunter22"])
    other = redact.redactor(())

    for _ in range(2):
        assert clean({"event": "the word is hunter22"})["event"] == "the word is ***"
        assert clean({"token": "short"})["token"] == redact.HIDDEN
        assert other({"event": "the word is hunter22"})["event"] == "the word is hunter22"


def test_a_password_of_a_url_is_hidden_in_every_encoding() -> None:
    config = Config(
        database_url=SecretStr("postgresql://me:hunt%2Fer%2022@db/x"),
        redis_url=SecretStr("redis://cache?password=wal%3Drus%2064"),
    )
    clean = redact.redactor(config.secrets())
    shapes = ("hunt/er 22", "hunt%2fer%2022", "hunt%2Fer+22", "hunt\\/er 22", "wal=rus 64")

    event = clean({"said": [f"It is {shape}." for shape in shapes]})

    assert event["said"] == ["It is ***."] * len(shapes)


@pytest.mark.parametrize(
    "text",
    [
        "wares.toml: line 1: auth.token: SHOP_KEY is not set",
        "secret:SHOP_TOKEN is not set; set it under /collection/secrets",
        "secret:SHOP_TOKEN, secret:OTHER is not set; set it under /collection/secrets",
        "auth.token: X is in the operator's environment (write secret:NAME)",
        "auth.password: secret:X is in an organisation's store (write env:NAME)",
    ],
)
def test_the_name_of_a_secret_that_is_not_set_is_told(text: str) -> None:
    assert redact.text(text) == text


@pytest.mark.usefixtures("lines")
async def test_the_address_of_an_alert_is_in_no_line_even_at_level_debug() -> None:
    logging.getLogger("urllib3").setLevel(logging.NOTSET)  # as when a process starts
    log.configure("json", "debug")
    stream = io.StringIO()
    cast("logging.StreamHandler[io.StringIO]", logging.getLogger().handlers[0]).setStream(stream)
    library: Any = apprise.Apprise
    notifiers = library()

    async with serving(lambda visit: visit.answer()) as site:
        notifiers.add(f"{site.replace('http', 'json')}/hunter-token")
        sent = await asyncio.to_thread(notifiers.notify, body="it happened")

    assert sent
    assert "hunter-token" not in stream.getvalue()


def _configure_by_a_dictionary() -> None:
    logging.config.dictConfig({"version": 1})


CHANGES: list[Callable[[], object]] = [
    _configure_by_a_dictionary,
    lambda: logging.disable(logging.CRITICAL),
    lambda: logging.basicConfig(force=True),
    lambda: logging.getLogger().setLevel(logging.CRITICAL),
    lambda: structlog.configure(logger_factory=structlog.PrintLoggerFactory()),
    lambda: structlog.configure(processors=[structlog.processors.JSONRenderer()]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_job_changes_of_the_logging_is_undone(
    change: Callable[[], object], lines: Callable[[], list[dict[str, Any]]]
) -> None:
    state = log.LoggingState.now()

    change()
    state.restore()
    log.logger("test").warning("it.happened", error="password=hunter22")

    restored, happened = lines()
    assert (restored["event"], happened["event"]) == ("logging.restored", "it.happened")
    assert happened["error"] == "password=***"


def test_of_the_logging_as_it_was_nothing_is_restored(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    log.LoggingState.now().restore()

    assert lines() == []
