"""Who asks: tokens are made here, shown once, and recognised again."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from app.errors import Unauthorized, UnknownOrg
from app.store import orgs
from app.store.db import Connection, Pool
from app.store.orgs import Token
from app.words import Scope

SHAPE = re.compile(r"rc_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
SECRET_BYTES = 32
_NOBODY = b"\x00" * 32


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token says is asking, and what it may do."""

    org_id: UUID
    org: str
    token_id: UUID
    label: str
    scope: Scope

    @property
    def name(self) -> str:
        """As it is recorded: the organisation and the token's label."""
        return f"{self.org}/{self.label}"


async def create_org(pool: Pool | Connection, name: str, now: datetime) -> UUID:
    """Make an organisation. Raises UnknownOrg if its name is taken or is none."""
    if not re.fullmatch(r"[\w][\w .&'-]{0,79}", name):
        raise UnknownOrg(f"{name!r} is no name: 1 to 80 letters, digits, spaces or . & ' -")
    org_id = uuid4()
    if not await orgs.create(pool, org_id, name, now):
        raise UnknownOrg(f"there is an organisation {name!r} already")
    return org_id


@dataclass(frozen=True, slots=True)
class Wish:
    """The token that is wanted: for which organisation, called what, and what it may do."""

    org: str
    label: str
    scope: Scope
    expires_at: datetime | None = None


async def create_token(pool: Pool | Connection, wish: Wish, now: datetime, *, by: str) -> str:
    """Make a token and return its secret, which is not kept and cannot be shown again.

    Raises UnknownOrg if there is no such organisation.
    """
    org = await orgs.named(pool, wish.org)
    if org is None:
        raise UnknownOrg(f"there is no organisation {wish.org!r}; see `python -m app org list`")
    token_id, secret = uuid4(), secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        id=token_id,
        org_id=org.id,
        org=org.name,
        label=wish.label,
        scope=wish.scope,
        hash=_hash(secret),
        created_at=now,
        expires_at=wish.expires_at,
        revoked_at=None,
        last_used_at=None,
        org_disabled_at=None,
    )
    await orgs.add_token(pool, token, by)
    return f"rc_{token_id.hex}_{secret}"


async def authenticate(pool: Pool | Connection, presented: str, now: datetime) -> Principal:
    """Who presents this token. Raises Unauthorized, in the same words whatever is wrong.

    The secret is compared in constant time, and also when there is no such token.
    """
    shape = SHAPE.fullmatch(presented)
    token = None if shape is None else await orgs.token(pool, UUID(shape[1]))
    kept = _NOBODY if token is None else token.hash
    same = hmac.compare_digest(_hash("" if shape is None else shape[2]), kept)
    if token is None or not same or not _works(token, now):
        raise Unauthorized("this token is not valid")
    await orgs.used(pool, token.id, now)
    return _principal(token)


async def still(pool: Pool | Connection, token_id: UUID, now: datetime) -> Principal:
    """Who signed in with this token, if it still works. Raises Unauthorized."""
    token = await orgs.token(pool, token_id)
    if token is None or not _works(token, now):
        raise Unauthorized("this token is not valid any more")
    return _principal(token)


def _works(token: Token, now: datetime) -> bool:
    expired = token.expires_at is not None and token.expires_at <= now
    return not expired and token.revoked_at is None and token.org_disabled_at is None


def _principal(token: Token) -> Principal:
    return Principal(token.org_id, token.org, token.id, token.label, token.scope)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
