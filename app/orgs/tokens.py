"""Organisations, and the API tokens of organisations and of the operator."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from app.core.enums import Scope
from app.core.errors import Unauthorized, UnknownOrg
from app.store.db import Connection, Pool
from app.store.orgs import orgs
from app.store.orgs.orgs import Token

TOKEN_PATTERN = re.compile(r"rc_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
SECRET_BYTES = 32
OPERATOR = "operator"  # what recorded actions of the operator's tokens begin with
_NO_HASH = b"\x00" * 32  # compared with when there is no such token


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a request is authenticated as: an organisation or the operator, and the token's scope.

    `org_id`: None is the operator. A principal of an organisation sees its rows only, and with
    `data` the operator's odds and news.
    """

    org_id: UUID | None
    org: str
    token_id: UUID
    label: str
    scope: Scope
    data: bool = False

    @property
    def name(self) -> str:
        """The name recorded with actions: organisation or `operator`, and token label."""
        return f"{self.org}/{self.label}"


async def create_org(pool: Pool | Connection, name: str, now: datetime) -> UUID:
    """Create an organisation; return its id. Raises UnknownOrg for a taken or invalid name."""
    if not re.fullmatch(r"[\w][\w .&'-]{0,79}", name):
        raise UnknownOrg(
            f"{name!r} is not a valid name: it takes 1 to 80 letters, digits, spaces or . & ' -"
        )
    if name == OPERATOR:
        raise UnknownOrg(f"{name!r} is not a valid name: it stands for the operator")
    org_id = uuid4()
    if not await orgs.create(pool, org_id, name, now):
        raise UnknownOrg(f"an organisation named {name!r} already exists")
    return org_id


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token to create: its organisation (None: the operator), label, scope and expiry.

    `expires_at`: None is never. `data`: whether it may read the operator's odds and news.
    """

    org: str | None
    label: str
    scope: Scope
    expires_at: datetime | None = None
    data: bool = False
    id: UUID = field(default_factory=uuid4)


async def create_token(
    pool: Pool | Connection, request: TokenRequest, now: datetime, *, by: str
) -> str:
    """Create a token and return it. Only its hash is stored, so it cannot be shown again.

    Raises UnknownOrg if there is no such organisation.
    """
    org = None if request.org is None else await orgs.by_name(pool, request.org)
    if org is None and request.org is not None:
        raise UnknownOrg(f"there is no organisation {request.org!r}; see `rollcall org list`")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        id=request.id,
        org_id=org and org.id,
        org=request.org,
        label=request.label,
        scope=request.scope,
        hash=_hash(secret),
        created_at=now,
        expires_at=request.expires_at,
        revoked_at=None,
        last_used_at=None,
        org_disabled_at=None,
        data=request.data,
    )
    await orgs.add_token(pool, token, by)
    return f"rc_{request.id.hex}_{secret}"


async def authenticate(pool: Pool | Connection, presented: str, now: datetime) -> Principal:
    """Return the principal of a token. Raises Unauthorized, with one message for every cause.

    The secret is compared in constant time, also when there is no such token.
    """
    match = TOKEN_PATTERN.fullmatch(presented)
    token = None if match is None else await orgs.token(pool, UUID(match[1]))
    stored = _NO_HASH if token is None else token.hash
    same = hmac.compare_digest(_hash("" if match is None else match[2]), stored)
    if token is None or not same or not _is_valid(token, now):
        raise Unauthorized("this token is not valid")
    await orgs.mark_used(pool, token.id, now)
    return _principal(token)


async def revalidate(pool: Pool | Connection, token_id: UUID, now: datetime) -> Principal:
    """Return the principal of a session's token. Raises Unauthorized if it is no longer valid."""
    token = await orgs.token(pool, token_id)
    if token is None or not _is_valid(token, now):
        raise Unauthorized("this token is no longer valid")
    return _principal(token)


def _is_valid(token: Token, now: datetime) -> bool:
    expired = token.expires_at is not None and token.expires_at <= now
    return not expired and token.revoked_at is None and token.org_disabled_at is None


def _principal(token: Token) -> Principal:
    org = token.org or OPERATOR
    return Principal(token.org_id, org, token.id, token.label, token.scope, token.data)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
