"""A session as it travels in a cookie: signed, dated, and not readable as anything else. Pure."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import msgspec

from app.access import Principal
from app.words import Scope

COOKIE = "rollcall_session"
LASTS = timedelta(hours=12)


class Session(msgspec.Struct, frozen=True, array_like=True):
    """Who signed in, until when. `nonce` tells one session from another: CSRF tokens hang on it."""

    token_id: UUID
    org_id: UUID
    org: str
    label: str
    scope: Scope
    until: int
    nonce: str

    @property
    def principal(self) -> Principal:
        """Who that was when they signed in. The token may have been revoked since."""
        return Principal(self.org_id, self.org, self.token_id, self.label, self.scope)


@dataclass(frozen=True, slots=True)
class Seal:
    """What signs and checks. `secret` never leaves it."""

    secret: bytes

    def close(self, session: Session) -> str:
        """The session as a cookie's value."""
        body = _text(msgspec.json.encode(session))
        return f"{body}.{self._mark('session', body)}"

    def open(self, value: str, now: datetime) -> Session | None:
        """The session of a cookie that this seal closed and that has not run out; else None."""
        body, _, mark = value.partition(".")
        if not _same(mark, self._mark("session", body)):
            return None
        try:
            session = msgspec.json.decode(_bytes(body), type=Session)
        except (ValueError, msgspec.MsgspecError):
            return None
        return session if session.until > now.timestamp() else None

    def csrf(self, session: Session) -> str:
        """The token that a form of this session carries."""
        return self._mark("form", f"{session.nonce} {session.token_id}")

    def agrees(self, session: Session, presented: str) -> bool:
        """Whether the form came from a page of this session."""
        return _same(presented, self.csrf(session))

    def _mark(self, purpose: str, body: str) -> str:
        message = f"{purpose}\n{body}".encode()
        return _text(hmac.digest(self.secret, message, sha256))


def begin(principal: Principal, now: datetime, nonce: str) -> Session:
    """A session of that principal, from now on. It ends with the token, if that is sooner."""
    return Session(
        principal.token_id,
        principal.org_id,
        principal.org,
        principal.label,
        principal.scope,
        int((now.astimezone(UTC) + LASTS).timestamp()),
        nonce,
    )


def _same(presented: str, expected: str) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "replace"), expected.encode())


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
