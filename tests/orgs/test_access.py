"""Tokens: shown once, kept as a hash, and refused in the same words whatever is wrong."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.core.enums import Scope
from app.core.errors import Unauthorized, UnknownOrg
from app.orgs import tokens
from app.store.db import Pool
from app.store.orgs import orgs

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def token_for(pool: Pool, *, expires_in: timedelta | None = None) -> str:
    await tokens.create_org(pool, "Acme", NOW)
    expires = None if expires_in is None else NOW + expires_in
    wish = tokens.TokenRequest("Acme", "laptop", Scope.OPERATE, expires)
    return await tokens.create_token(pool, wish, NOW, by="root")


async def refusal(pool: Pool, presented: str, now: datetime = NOW) -> str:
    with pytest.raises(Unauthorized) as refused:
        await tokens.authenticate(pool, presented, now)
    return str(refused.value)


async def test_a_token_says_who_asks_and_what_they_may(pool: Pool) -> None:
    secret = await token_for(pool)

    who = await tokens.authenticate(pool, secret, NOW)

    assert (who.name, who.scope) == ("Acme/laptop", Scope.OPERATE)


async def test_the_secret_is_nowhere_in_the_database(pool: Pool) -> None:
    secret = await token_for(pool)

    rows = await pool.fetch("SELECT t::text AS line FROM api_tokens t")

    assert secret.rsplit("_", 1)[1] not in str([row["line"] for row in rows])


async def test_whatever_is_wrong_is_refused_in_the_same_words(pool: Pool) -> None:
    secret = await token_for(pool, expires_in=timedelta(hours=1))
    changed = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    unknown = f"rc_{uuid4().hex}_{secret.rsplit('_', 1)[1][:43]}"
    late = NOW + timedelta(hours=2)

    said = {
        await refusal(pool, changed),
        await refusal(pool, unknown),
        await refusal(pool, ""),
        await refusal(pool, "rc_\x00"),
        await refusal(pool, secret, late),
    }

    assert len(said) == 1


async def test_a_revoked_token_is_refused(pool: Pool) -> None:
    secret = await token_for(pool)
    who = await tokens.authenticate(pool, secret, NOW)

    await orgs.revoke(pool, who.token_id, NOW)

    await refusal(pool, secret)
    with pytest.raises(Unauthorized):
        await tokens.revalidate(pool, who.token_id, NOW)


async def test_the_tokens_of_a_disabled_organisation_are_refused_until_it_is_let_in(
    pool: Pool,
) -> None:
    secret = await token_for(pool)
    who = await tokens.authenticate(pool, secret, NOW)

    assert who.org_id is not None
    await orgs.set_disabled(pool, who.org_id, NOW)
    await refusal(pool, secret)
    await orgs.set_disabled(pool, who.org_id, None)

    assert await tokens.authenticate(pool, secret, NOW) == who


async def test_two_organisations_cannot_have_one_name(pool: Pool) -> None:
    await tokens.create_org(pool, "Acme", NOW)

    with pytest.raises(UnknownOrg, match="already"):
        await tokens.create_org(pool, "Acme", NOW)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 81, "<script>"])
async def test_a_name_that_is_none_is_refused(pool: Pool, name: str) -> None:
    with pytest.raises(UnknownOrg):
        await tokens.create_org(pool, name, NOW)


@pytest.mark.parametrize(
    ("has", "wants", "may"),
    [
        (Scope.READ, Scope.READ, True),
        (Scope.READ, Scope.OPERATE, False),
        (Scope.OPERATE, Scope.ADMIN, False),
        (Scope.ADMIN, Scope.READ, True),
    ],
)
def test_a_scope_allows_what_those_before_it_do(has: Scope, wants: Scope, may: bool) -> None:
    assert has.allows(wants) is may
