"""Sessions in signed cookies, and CSRF tokens bound to them. Pure."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import msgspec

from app.core.enums import Scope
from app.orgs.tokens import Principal

COOKIE = "rollcall_session"
SESSION_LIFETIME = timedelta(hours=12)


class Session(msgspec.Struct, frozen=True, array_like=True):
    """A signed-in principal. `until`: expiry in Unix seconds; `nonce` is part of the CSRF token."""

    token_id: UUID
    org_id: UUID | None
    org: str
    label: str
    scope: Scope
    until: int
    nonce: str

    @property
    def principal(self) -> Principal:
        """The principal at the time of sign-in. The token may have been revoked since."""
        return Principal(self.org_id, self.org, self.token_id, self.label, self.scope)


@dataclass(frozen=True, slots=True)
class SessionSigner:
    """Signs and verifies session cookies and CSRF tokens with an HMAC-SHA-256 of `secret`."""

    secret: bytes

    def sign(self, session: Session) -> str:
        """The signed value of the session cookie."""
        body = _text(msgspec.json.encode(session))
        return f"{body}.{self._sign('session', body)}"

    def verify(self, value: str, now: datetime) -> Session | None:
        """The session of a cookie; None if its signature is wrong or it has expired at `now`."""
        body, _, signature = value.partition(".")
        if not _same(signature, self._sign("session", body)):
            return None
        try:
            session = msgspec.json.decode(
                urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Session
            )
        except (ValueError, msgspec.MsgspecError):
            return None
        return session if session.until > now.timestamp() else None

    def csrf(self, session: Session) -> str:
        """The CSRF token for the forms of this session."""
        return self._sign("form", f"{session.nonce} {session.token_id}")

    def csrf_matches(self, session: Session, presented: str) -> bool:
        return _same(presented, self.csrf(session))

    def _sign(self, purpose: str, body: str) -> str:
        message = f"{purpose}\n{body}".encode()
        return _text(hmac.digest(self.secret, message, sha256))


def new_session(principal: Principal, now: datetime, nonce: str) -> Session:
    """A session of `principal` that starts at `now` and lasts SESSION_LIFETIME at most."""
    return Session(
        principal.token_id,
        principal.org_id,
        principal.org,
        principal.label,
        principal.scope,
        int((now.astimezone(UTC) + SESSION_LIFETIME).timestamp()),
        nonce,
    )


def _same(presented: str, expected: str) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "replace"), expected.encode())


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
