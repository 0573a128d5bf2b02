"""The keys of SECRETS_KEY, as text and as bytes."""

import base64
import binascii

from pydantic import SecretStr

KEY_BYTES = 32
HOW_TO_MAKE_ONE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def secret_keys(value: SecretStr) -> list[bytes]:
    """Return the keys, separated by commas in the setting. Raises ValueError if one is invalid."""
    return [_parsed(key.strip()) for key in value.get_secret_value().split(",")]


def _parsed(text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"each key must be {KEY_BYTES} bytes in base64; {HOW_TO_MAKE_ONE}")
    return key
