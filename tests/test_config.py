"""Settings: read once, frozen, and when one is wrong it is named with what it may be."""

import asyncio
import re
import ssl
import struct
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError
from redis.asyncio.connection import SSLConnection

from app.core import config
from app.core.config import Config
from app.core.errors import BadConfig
from app.core.setting_types import pings
from app.queue.jobs import redis_pool
from app.store.db import open_pool
from scripts.tcp_server import tcp_server

EXAMPLE = Path(__file__).parents[1] / ".env.example"
FIELDS = sorted(Config.model_fields)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings in the environment, and no `.env` in the folder."""
    monkeypatch.chdir(tmp_path)
    for name in FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadConfig) as refused:
        config.load()
    return str(refused.value)


def test_without_any_setting_there_is_a_default_for_each() -> None:
    loaded = config.load()

    assert loaded.scrape_interval_minutes == 5
    assert loaded.odds_platforms == ("sportybet", "betpawa", "bet9ja")
    assert loaded.database_url is loaded.redis_url is None


def test_all_that_is_wrong_is_said_in_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(
        monkeypatch,
        SCRAPE_INTERVAL_MINUTES="soon",
        MAX_JOBS="0",
        LOG_FORMAT="xml",
        ODDS_PLATFORMS="betpawa,bet365",
        BET9JA_URL="sports.bet9ja.com",
    )

    first, *lines = said.splitlines()
    assert first == "Invalid settings (see .env.example):"
    assert len(lines) == 5
    assert all(re.match(r"  [A-Z0-9_]+ = .+: .+", line) for line in lines)


@pytest.mark.parametrize(
    ("name", "value", "may_be"),
    [
        ("SCRAPE_INTERVAL_MINUTES", "soon", "valid number"),
        ("SCRAPE_INTERVAL_MINUTES", "0", "greater than 0"),
        ("SCRAPE_INTERVAL_MINUTES", "-1", "greater than 0"),
        ("SCRAPE_INTERVAL_MINUTES", "nan", ""),
        ("SCRAPE_INTERVAL_MINUTES", "inf", "less than or equal to 527040"),
        ("MAX_JOBS", "0", "greater than or equal to 1"),
        ("MAX_JOBS", "many", "valid integer"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        ("ODDS_PLATFORMS", "betpawa,bet365", "known: sportybet, betpawa, bet9ja"),
        ("ODDS_PLATFORMS", ",", "name at least one of: sportybet, betpawa, bet9ja"),
        ("BET9JA_URL", "sports.bet9ja.com", "must start with http:// or https://"),
        ("PUBLIC_URL", "https://", "must name a host"),
        ("PUBLIC_URL", "https://example.org:99999", "no invalid port"),
        ("PUBLIC_URL", "https://example.org/?page=1", "must not contain ? or #"),
        ("CONTACT", "Jürgen, https://example.org", "must be ASCII characters only"),
        ("CONTACT", "https://example.org\nX-Other: 1", "must be ASCII characters only"),
        ("TRACKED_ENTITIES", "; OpenAI" * 40, "longer than 200 characters"),
        ("BETPAWA_VERSION", "v5", "'v3' or 'v4'"),
        ("BETPAWA_BRAND", "Bet Pawa", "match pattern"),
        ("REDIS_SSL_CERT_REQS", "maybe", "'required' or 'none'"),
        ("ALERT_QUIET_HOURS", "late", "must be HH:MM-HH:MM"),
        ("MONTHLY_REQUESTS", "many", "must be name=number, separated by commas"),
        ("FRESH_MINUTES", "=5", "must be name=number, separated by commas"),
        ("MONTHLY_REQUESTS", "a=1,b=2, a=3", "names a more than once"),
        ("ALERT_QUIET_HOURS", "22:00-07:00 Mars/Base", "no time zone 'Mars/Base'"),
        ("ALERT_QUIET_HOURS", "22:00-22:00", "begins when it ends"),
        ("GUARD_ALLOW", "http://x", "such as intranet.example,10.1.0.0/16"),
        ("GUARD_ALLOW", "x:8080", "such as intranet.example,10.1.0.0/16"),
        ("GUARD_ALLOW", "10.1.0.1/16", "has host bits set"),
        ("DATA_DIR", "a_file", "is a file; it must be a directory"),
        ("SOURCES_DIR", "a_file", "is a file; it must be a directory"),
    ],
)
def test_a_wrong_value_is_named_shown_and_told_what_it_may_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, may_be: str
) -> None:
    Path("a_file").touch()
    said = refusal(monkeypatch, **{name: value})

    (line,) = said.splitlines()[1:]
    assert line.startswith(f"  {name} = ")
    assert may_be in line
    assert repr(value)[1:-1] in line or name == "ODDS_PLATFORMS"


@pytest.mark.parametrize(
    "name",
    [
        "ASKNEWS_API_KEY",
        "CONTACT",
        "METRICS_TOKEN",
        "SESSION_SECRET",
        "SCRAPE_TIMEZONE",
        "DATA_DIR",
    ],
)
def test_a_blank_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, " " * 40)

    field = name.lower()

    assert getattr(config.load(), field) == Config.model_fields[field].default


def test_a_budget_is_a_number_that_postgres_can_count_to(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, MONTHLY_REQUESTS=f"books={10**20}")

    assert "less than or equal to" in said


def test_the_line_break_of_a_secret_in_a_file_is_not_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://u@h/rollcall\n")

    url = config.load().database_url

    assert url is not None
    assert url.get_secret_value() == "postgres://u@h/rollcall"


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("DATABASE_URL", "must start with postgres:// or postgresql://"),
        ("REDIS_URL", "must start with redis://, rediss:// or unix://"),
        ("SECRETS_KEY", "each key must be 32 bytes in base64; make one with: python -c"),
        ("ASKNEWS_API_KEY", "must be ASCII characters only"),
        ("METRICS_TOKEN", "must be ASCII characters only"),
    ],
)
def test_a_wrong_secret_is_told_what_it_may_be_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, may_be: str
) -> None:
    said = refusal(monkeypatch, **{name: "mysql://ada:s3cret…@db.example/x", "MAX_JOBS": "0"})

    assert f"{name} = (hidden): {may_be}" in said
    assert "s3cret" not in said
    assert "ada" not in said


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("ASKNEWS_CLIENT_ID", "ASKNEWS_CLIENT_SECRET"),
        ("ASKNEWS_CLIENT_SECRET", "ASKNEWS_CLIENT_ID"),
    ],
)
def test_half_of_a_login_is_refused_unless_another_one_is_set(
    monkeypatch: pytest.MonkeyPatch, given: str, missing: str
) -> None:
    said = refusal(monkeypatch, **{given: "x"})
    monkeypatch.setenv("ASKNEWS_API_KEY", "k")

    assert f"{given} has no effect without {missing}" in said
    assert config.load().asknews_api_key is not None


def test_hosts_addresses_and_networks_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARD_ALLOW", "Intranet.example, bücher.example,10.1.0.0/16,::1,10.0.0.9")

    allowed = config.load().guard_allow

    assert allowed == ("intranet.example", "bücher.example", "10.1.0.0/16", "::1", "10.0.0.9")


@pytest.mark.parametrize("url", ["redis://h:6379/abc", "rediss://h/0/1"])
def test_a_redis_address_ends_with_a_number(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert "REDIS_URL = (hidden): must end with the number" in refusal(monkeypatch, REDIS_URL=url)


def test_a_secret_that_is_too_short_has_characters_and_no_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refusal(monkeypatch, SESSION_SECRET="hush")  # noqa: S106 - invented

    assert said.endswith("SESSION_SECRET = (hidden): must have at least 32 characters")


@pytest.mark.parametrize(
    ("hosts", "taken"),
    [("h1:5432,h2:5433", True), ("u:a,b@h1,h2:1", True), ("h1:5432,h2:x", False)],
)
def test_a_database_may_have_several_hosts_each_with_its_port(
    monkeypatch: pytest.MonkeyPatch, hosts: str, taken: bool
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{hosts}/rollcall")

    if taken:
        assert config.load().database_url is not None
    else:
        with pytest.raises(BadConfig, match="not a valid URL"):
            config.load()


@pytest.mark.parametrize("password", ["p@:/%", "1/2", "a@b:/c", "1#2"])
def test_a_password_that_must_be_percent_encoded_is_named_as_the_fault(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    database = refusal(monkeypatch, DATABASE_URL=f"postgresql://u:{password}@db.example:5432/x")
    redis = refusal(monkeypatch, REDIS_URL=f"redis://:{password}@redis.example:6379/0")

    assert "special characters in a password must be percent-encoded" in database
    assert "special characters in a password must be percent-encoded" in redis


def test_no_secret_is_shown_by_the_settings_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://ada:s3cret@db.example/x")
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@redis.example")
    monkeypatch.setenv("ASKNEWS_API_KEY", "s3cret-key")
    monkeypatch.setenv("ASKNEWS_CLIENT_SECRET", "s3cret-too")

    loaded = config.load()

    for shown in (repr(loaded), str(loaded), str(loaded.model_dump()), loaded.model_dump_json()):
        assert "s3cret" not in shown


def test_the_dot_env_file_is_read_and_the_environment_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("MAX_JOBS=7\nSCRAPE_INTERVAL_MINUTES=9\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("MAX_JOBS", "3")

    loaded = config.load()

    assert (loaded.max_jobs, loaded.scrape_interval_minutes) == (3, 9)


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_JOBS", "")
    monkeypatch.setenv("DATABASE_URL", "")

    assert (config.load().max_jobs, config.load().database_url) == (10, None)


def test_platforms_are_split_trimmed_and_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODDS_PLATFORMS", " Bet9ja, betpawa ,bet9ja,")

    assert config.load().odds_platforms == ("bet9ja", "betpawa")


def test_tracked_entities_are_split_at_commas_trimmed_and_kept_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACKED_ENTITIES", " OpenAI, Manchester United ,openai,,AMD")

    assert config.load().tracked_entities == ("OpenAI", "Manchester United", "AMD")


@pytest.mark.parametrize("named", ["@{}", "{}"])
def test_tracked_entities_may_stand_in_a_file_one_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    listed = tmp_path / "names.txt"
    listed.write_text("# ours\nOpenAI\n\n  Procter, and Gamble \n")
    monkeypatch.setenv("TRACKED_ENTITIES", named.format(listed))

    assert config.load().tracked_entities == ("OpenAI", "Procter, and Gamble")


def test_a_file_of_entities_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, TRACKED_ENTITIES="@none.txt")

    assert "the file none.txt cannot be read: no such file or directory" in said


def test_a_url_loses_its_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETPAWA_URL", "http://localhost:8900/betpawa/")

    assert config.load().betpawa_url == "http://localhost:8900/betpawa"


def test_settings_cannot_be_changed_afterwards() -> None:
    loaded = config.load()

    with pytest.raises(ValidationError, match="frozen"):
        loaded.max_jobs = 3


def example_paragraphs() -> Iterator[tuple[str, str, list[str]]]:
    """Each setting of `.env.example`: its name, its value, and the comment lines above it."""
    above: list[str] = []
    for line in EXAMPLE.read_text().splitlines():
        assigned = re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line)
        if assigned:
            yield assigned[1], assigned[2], above
            above = []
        elif line.startswith("# "):
            above.append(line.removeprefix("# "))
        else:
            above = []


@pytest.mark.parametrize("field", FIELDS)
def test_every_setting_is_explained_in_the_example(field: str) -> None:
    explained = {name: above for name, _, above in example_paragraphs()}

    assert field.upper() in explained
    assert any(len(line.split()) > 2 for line in explained[field.upper()])


def test_the_example_names_no_setting_that_is_none() -> None:
    assert sorted(name.lower() for name, _, _ in example_paragraphs()) == FIELDS


def test_the_example_as_it_stands_can_be_used(tmp_path: Path) -> None:
    lines = (f"{name}={value}" for name, value, _ in example_paragraphs())
    (tmp_path / ".env").write_text("\n".join(lines))

    loaded, defaults = config.load(), Config(_env_file=None)  # pyright: ignore[reportCallIssue] - pydantic-settings' own keyword

    urls = {"database_url", "redis_url"}
    assert loaded.model_dump(exclude=urls) == defaults.model_dump(exclude=urls)


@pytest.fixture
async def tls_refuser() -> AsyncGenerator[tuple[int, list[bytes]]]:
    """A server that turns TLS down; its port, and the first words of each caller."""
    first_words: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first_words.append(await reader.readexactly(8))
        writer.write(b"N")

    async with tcp_server(answer) as port:
        yield port, first_words


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_herokus_database_url_is_spoken_to_over_tls_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tls_refuser: tuple[int, list[bytes]], scheme: str
) -> None:
    port, first_words = tls_refuser
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://ada:s3@127.0.0.1:{port}/d1?sslmode=require")
    loaded = config.load()
    assert loaded.database_url is not None

    with pytest.raises(ConnectionError, match="SSL"):
        await open_pool(loaded.database_url.get_secret_value(), size=1, wait_seconds=0)

    assert first_words == [struct.pack("!ii", 8, 80877103)]


async def test_a_database_url_that_can_never_work_is_refused_at_once() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(asyncpg.ClientConfigurationError, match="sslmode"):
            await open_pool("postgres://ada@127.0.0.1/d1?sslmode=maybe", size=1)


@pytest.mark.parametrize(("checked", "reads"), [("required", True), ("none", False)])
async def test_herokus_redis_url_is_spoken_to_over_tls(
    monkeypatch: pytest.MonkeyPatch, checked: str, reads: bool
) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://:s3cret@ec2-1-2-3-4.example:6380")
    monkeypatch.setenv("REDIS_SSL_CERT_REQS", checked)
    loaded = config.load()
    assert loaded.redis_url is not None

    client = redis_pool(
        loaded.redis_url.get_secret_value(), ssl_cert_reqs=loaded.redis_ssl_cert_reqs
    )

    connection = client.connection_pool.make_connection()
    assert isinstance(connection, SSLConnection)
    assert connection.check_hostname is reads
    await client.aclose(close_connection_pool=True)


async def test_an_option_of_the_url_says_whether_a_certificate_is_checked() -> None:
    for url, checked in (
        ("rediss://localhost?ssl_cert_reqs=none", False),
        ("rediss://localhost?ssl_cert_reqs=required", True),
        ("rediss://localhost?ssl_cert_reqs=required&ssl_check_hostname=false", False),
    ):
        client = redis_pool(url)
        connection = client.connection_pool.make_connection()

        assert isinstance(connection, SSLConnection)
        assert connection.check_hostname is checked
        assert connection.cert_reqs is (ssl.CERT_NONE if "=none" in url else ssl.CERT_REQUIRED)
        await client.aclose(close_connection_pool=True)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("db=abc", "Invalid value for 'db'"),
        ("socket_timeout=soon", "Invalid value for 'socket_timeout'"),
        ("pasword=s3cret", "unexpected keyword argument 'pasword'"),
        ("ssl_cert_reqs=maybe", "SSL Certificate Requirements"),
    ],
)
def test_an_option_of_redis_that_cannot_be_used_is_a_fault_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, options: str, fault: str
) -> None:
    said = refusal(monkeypatch, REDIS_URL=f"rediss://localhost:1?{options}")

    assert "REDIS_URL = (hidden): has an option that cannot be used" in said
    assert fault in said


@pytest.mark.parametrize(
    ("name", "value", "may_be"),
    [
        ("ALERT_URLS", "hooks.example.org/s3cret", "must be URLs such as json://host/path"),
        ("PING_URLS", "poll_news-s3cret", "must be job=https://"),
        ("PING_URLS", "a=https://s3cret,a=https://s3cret", "names a more than once"),
        ("PING_SCHEDULER_URL", "ftp://s3cret", "must start with http:// or https://"),
        ("FRESH_MINUTES", "poll_news=soon", "valid number"),
        ("FRESH_MINUTES", "poll_news", "must be name=number"),
    ],
)
def test_where_alerts_and_pings_go_is_checked_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, may_be: str
) -> None:
    said = refusal(monkeypatch, **{name: value})

    assert name in said
    assert may_be in said
    assert "s3cret" not in said


def test_pings_are_read_job_by_job_whatever_stands_between_them() -> None:
    address = "https://hc.example.org/a?x=1"

    read = pings(SecretStr(f"poll={address}, odds={address}\nnews=http://h/"))

    assert read == {"poll": address, "odds": address, "news": "http://h/"}
