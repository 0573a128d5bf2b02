"""`rollcall org` and `python -m app token`, as an operator types them."""

import json
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from app.store.db import Pool

PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def environment(dsn: str, redis_url: str) -> dict[str, str]:
    return {"DATABASE_URL": dsn, "REDIS_URL": redis_url, "USER": "tester"}


def app(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "app", *words],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_an_operator_makes_an_organisation_and_a_token_which_is_shown_once(
    environment: dict[str, str],
) -> None:
    assert app(environment, "org", "create", "Acme").returncode == 0

    made = app(environment, "token", "create", "--org", "Acme", "--scope", "admin")

    listed = app(environment, "token", "list", "--org", "Acme", "--json").stdout
    assert made.returncode == 0
    assert made.stdout.startswith("rc_")
    assert "cannot be shown again" in made.stderr
    assert json.loads(listed)[0]["scope"] == "admin"
    assert made.stdout.strip().rsplit("_", 1)[1] not in listed


async def test_the_id_of_a_token_is_listed_whole_so_that_it_can_be_revoked(
    environment: dict[str, str],
) -> None:
    app(environment, "org", "create", "Acme")
    app(environment, "token", "create", "--org", "Acme")
    token = json.loads(app(environment, "token", "list", "--org", "Acme", "--json").stdout)[0]

    listed = app(environment, "token", "list", "--org", "Acme")

    assert token["id"] in listed.stdout


async def test_a_token_has_the_label_the_days_and_the_data_that_were_asked_for(
    environment: dict[str, str],
) -> None:
    app(environment, "org", "create", "Acme")

    app(environment, "token", "create", "--org", "Acme", "--label", "nightly", "--days", "2")
    app(environment, "token", "create", "--org", "Acme", "--data")

    first, second = json.loads(app(environment, "token", "list", "--org", "Acme", "--json").stdout)
    created, expires = (
        datetime.fromisoformat(first[name]) for name in ("created_at", "expires_at")
    )
    assert (first["label"], first["scope"], first["data"]) == ("nightly", "read", False)
    assert expires - created == timedelta(days=2)
    assert (second["label"], second["expires_at"], second["data"]) == ("api", None, True)


async def test_the_lists_have_a_column_for_all_that_is_known(
    environment: dict[str, str], pool: Pool
) -> None:
    for name in ("Beta", "Acme"):
        app(environment, "org", "create", name)
    app(environment, "token", "create", "--org", "Acme", "--label", "first", "--scope", "operate")
    app(environment, "token", "create", "--org", "Acme", "--label", "second", "--days", "9")
    app(environment, "token", "create", "--operator", "--label", "ours")
    used = await pool.fetchval(
        "UPDATE api_tokens SET last_used_at = now() WHERE label = 'first' RETURNING last_used_at"
    )
    await pool.execute(
        "INSERT INTO org_usage SELECT id, 7, 1500000 FROM organizations WHERE name = 'Acme'"
    )
    app(environment, "org", "disable", "Beta")
    app(environment, "org", "limit", "Beta", "max_pages", "9")

    orgs = json.loads(app(environment, "org", "list", "--json").stdout)
    tokens = json.loads(app(environment, "token", "list", "--org", "Acme", "--json").stdout)
    ours = json.loads(app(environment, "token", "list", "--operator", "--json").stdout)
    titles = [
        " ".join(app(environment, *words).stdout.splitlines()[0].split())
        for words in (("org", "list"), ("token", "list", "--org", "Acme"))
    ]

    ids = await pool.fetch("SELECT id FROM organizations ORDER BY name")
    assert [(org["id"], org["name"]) for org in orgs] == [
        (str(ids[0]["id"]), "Acme"),
        (str(ids[1]["id"]), "Beta"),
    ]
    assert [(org["rows"], org["stored_mb"]) for org in orgs] == [(7, 1.5), (0, 0)]
    assert [org["disabled_at"] is None for org in orgs] == [True, False]
    assert all(org["created_at"] for org in orgs)
    assert [(one["label"], one["scope"]) for one in tokens] == [
        ("first", "operate"),
        ("second", "read"),
    ]
    assert datetime.fromisoformat(tokens[0]["last_used_at"]) == used
    assert (tokens[1]["last_used_at"], tokens[0]["revoked_at"]) == (None, None)
    assert [one["label"] for one in ours] == ["ours"]
    assert titles == [
        "id name created at disabled at limits rows stored mb",
        "id label scope created at expires at last used at data",
    ]


async def test_a_revoked_token_is_listed_as_revoked_and_cannot_be_revoked_twice(
    environment: dict[str, str],
) -> None:
    app(environment, "org", "create", "Acme")
    app(environment, "token", "create", "--org", "Acme")
    token = json.loads(app(environment, "token", "list", "--org", "Acme", "--json").stdout)[0]

    first = app(environment, "token", "revoke", token["id"])
    second = app(environment, "token", "revoke", token["id"])

    after = json.loads(app(environment, "token", "list", "--org", "Acme", "--json").stdout)[0]
    assert (first.returncode, second.returncode) == (0, 2)
    assert after["revoked_at"]


async def test_a_limit_of_its_own_is_listed_and_can_be_taken_back(
    environment: dict[str, str],
) -> None:
    app(environment, "org", "create", "Acme")

    app(environment, "org", "limit", "Acme", "max_pages", "2000")
    with_it = json.loads(app(environment, "org", "list", "--json").stdout)[0]
    app(environment, "org", "limit", "Acme", "max_pages")
    without = json.loads(app(environment, "org", "list", "--json").stdout)[0]

    assert (with_it["limits"], without["limits"]) == ({"max_pages": 2000.0}, {})


async def test_a_deleted_organisation_is_exported_first_if_a_file_is_named(
    environment: dict[str, str], tmp_path: Path
) -> None:
    app(environment, "org", "create", "Acme")
    app(environment, "token", "create", "--org", "Acme", "--label", "nightly")
    file = tmp_path / "acme.zip"

    done = app(environment, "org", "delete", "Acme", "--yes", "--export", str(file))
    again = app(environment, "org", "delete", "Acme", "--yes")

    with zipfile.ZipFile(file) as exported:
        text = b"".join(exported.read(name) for name in exported.namelist())
    assert (done.returncode, again.returncode) == (0, 2)
    assert b"nightly" in text


async def test_what_leaves_is_exported_when_nothing_is_written_any_more(
    environment: dict[str, str], tmp_path: Path
) -> None:
    app(environment, "org", "create", "Acme")
    file = tmp_path / "acme.zip"
    file.touch()

    refused = app(environment, "org", "delete", "Acme", "--yes", "--export", str(file))
    nowhere = str(tmp_path / "no directory" / "acme.zip")
    lost = app(environment, "org", "delete", "Acme", "--yes", "--export", nowhere)
    listed = json.loads(app(environment, "org", "list", "--json").stdout)
    file.unlink()
    done = app(environment, "org", "delete", "Acme", "--yes", "--export", str(file))

    assert (refused.returncode, lost.returncode, listed[0]["disabled_at"]) == (2, 2, None)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(file) as archive:
        exported = json.loads(archive.read("organizations.jsonl"))
    assert exported["disabled_at"] is not None


@pytest.mark.parametrize(
    "words",
    [
        ("token", "create", "--org", "Nobody"),
        ("token", "list", "--org", "Nobody"),
        ("org", "disable", "Nobody"),
        ("org", "limit", "Nobody", "max_pages", "1"),
        ("org", "create", "<b>"),
    ],
)
async def test_what_cannot_be_done_ends_with_2_and_a_sentence(
    environment: dict[str, str], words: tuple[str, ...]
) -> None:
    done = app(environment, *words)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
