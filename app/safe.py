"""The safe: secrets of organisations, sealed so that only this house can open them again.

AES-256-GCM, with the organisation and the secret's name bound to it: a sealed secret that is moved
to another row opens no more.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from app.config import Config
from app.errors import BadConfig

_FORM = b"\x01"
_KEY, _MARK, _NONCE = 32, 4, 12  # bytes
_MEND = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


@dataclass(frozen=True)
class Safe:
    """Seals with the first key and opens with any. Keys are 32 bytes each."""

    keys: Sequence[bytes] = field(repr=False)

    def seal(self, org_id: UUID, name: str, value: SecretStr) -> bytes:
        """The secret, sealed for this organisation and this name only."""
        key, nonce = self.keys[0], os.urandom(_NONCE)
        plain = value.get_secret_value().encode("utf-8")
        return _FORM + _mark(key) + nonce + AESGCM(key).encrypt(nonce, plain, _bound(org_id, name))

    def opened(self, org_id: UUID, name: str, sealed: bytes) -> SecretStr:
        """The secret. Raises BadConfig if none of the keys opens it, or it was meddled with."""
        nonce = sealed[len(_FORM) + _MARK :][:_NONCE]
        text = sealed[len(_FORM) + _MARK + _NONCE :]
        for key in self.keys:
            if sealed.startswith(_FORM + _mark(key)):
                try:
                    plain = AESGCM(key).decrypt(nonce, text, _bound(org_id, name))
                except InvalidTag:
                    break
                return SecretStr(plain.decode("utf-8"))
        raise BadConfig(
            f"SECRETS_KEY does not open the secret {name}: a key is missing from it, or the secret"
            " is not as it was sealed; add the key, or set the secret again"
        )

    def current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the first key."""
        return sealed.startswith(_FORM + _mark(self.keys[0]))


def of(config: Config) -> Safe:
    """The safe of this house. Raises BadConfig if SECRETS_KEY is not set or no key."""
    if config.secrets_key is None:
        raise BadConfig(
            f"SECRETS_KEY is not set: organisations' secrets can neither be kept nor used; {_MEND}"
        )
    return Safe([_read(text.strip()) for text in config.secrets_key.get_secret_value().split(",")])


def _read(text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY:
        raise BadConfig(f"SECRETS_KEY = (hidden): each key must be 32 bytes in base64; {_MEND}")
    return key


def _mark(key: bytes) -> bytes:
    return hashlib.sha256(b"rollcall key mark" + key).digest()[:_MARK]


def _bound(org_id: UUID, name: str) -> bytes:
    return b"rollcall org_secrets\0" + org_id.bytes + name.encode("utf-8")
