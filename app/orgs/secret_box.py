"""SecretBox: encryption of organisations' secrets with the keys of SECRETS_KEY.

AES-256-GCM, with the organisation's id and the secret's name as associated data, so that a
ciphertext that is moved to another row fails to decrypt.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import SecretStr

from app.core.config import Config
from app.core.errors import BadConfig
from app.core.secret_keys import HOW_TO_MAKE_ONE, secret_keys

_VERSION = b"\x01"  # of the stored format: version, key id, nonce, ciphertext
_KEY_ID_BYTES, _NONCE_BYTES = 4, 12


@dataclass(frozen=True)
class SecretBox:
    """Encrypts with the first key and decrypts with any. Keys are 32 bytes each."""

    keys: Sequence[bytes] = field(repr=False)

    def seal(self, org_id: UUID, name: str, value: SecretStr) -> bytes:
        """Encrypt the secret for this organisation and name."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 12 MB

        key, nonce = self.keys[0], os.urandom(_NONCE_BYTES)
        plain = value.get_secret_value().encode("utf-8")
        ciphertext = AESGCM(key).encrypt(nonce, plain, _associated_data(org_id, name))
        return _VERSION + _key_id(key) + nonce + ciphertext

    def open(self, org_id: UUID, name: str, sealed: bytes) -> SecretStr:
        """Decrypt the secret. Raises BadConfig if no key fits, or if the data was altered."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as in `seal`
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        header = len(_VERSION) + _KEY_ID_BYTES
        nonce, ciphertext = sealed[header:][:_NONCE_BYTES], sealed[header + _NONCE_BYTES :]
        for key in self.keys:
            if sealed.startswith(_VERSION + _key_id(key)):
                try:
                    plain = AESGCM(key).decrypt(nonce, ciphertext, _associated_data(org_id, name))
                except InvalidTag:
                    break
                return SecretStr(plain.decode("utf-8"))
        raise BadConfig(
            f"SECRETS_KEY does not decrypt the secret {name}: a key is missing, or the stored"
            " secret was altered; add the key, or set the secret again"
        )

    def resealed(self, org_id: UUID, name: str, sealed: bytes) -> bytes | None:
        """Encrypt the secret with the first key; None if it is already. Raises as `open` does."""
        if sealed.startswith(_VERSION + _key_id(self.keys[0])):
            return None
        return self.seal(org_id, name, self.open(org_id, name, sealed))


def from_config(config: Config) -> SecretBox:
    """Return the box with the keys of SECRETS_KEY. Raises BadConfig if it is not set."""
    if config.secrets_key is None:
        raise BadConfig(
            "SECRETS_KEY is not set: organisations' secrets can be neither stored nor used;"
            f" {HOW_TO_MAKE_ONE}"
        )
    return SecretBox(secret_keys(config.secrets_key))


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"rollcall key mark" + key).digest()[:_KEY_ID_BYTES]


def _associated_data(org_id: UUID, name: str) -> bytes:
    return b"rollcall org_secrets\0" + org_id.bytes + name.encode("utf-8")
