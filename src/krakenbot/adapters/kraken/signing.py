"""Kraken's signature of a private REST request.

`API-Sign = base64(HMAC-SHA512(base64decode(secret), path + SHA256(nonce + body)))`, the body being the exact bytes
sent (docs.kraken.com, guides/spot-rest-auth). Called by rest.py alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from attrs import field, frozen

from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret


def _check_private_key(_instance: object, _attribute: object, value: Secret) -> None:
    try:
        base64.b64decode(value.reveal(), validate=True)
    except (binascii.Error, ValueError):
        # neither the value nor the cause: both could show a part of the key
        raise ConfigError("the private key of the Kraken API must be base64, as Kraken shows it") from None


@frozen(kw_only=True)
class Credentials:
    """An API key and its private key as Kraken shows them; raises ConfigError when the private key is not base64."""

    api_key: Secret
    private_key: Secret = field(validator=_check_private_key)


def sign(credentials: Credentials, *, path: str, nonce: int, body: bytes) -> str:
    """Return the API-Sign header for a request; `path` starts with /0/private/, `body` holds the nonce."""
    digest = hashlib.sha256(str(nonce).encode("ascii") + body).digest()
    key = base64.b64decode(credentials.private_key.reveal())
    return base64.b64encode(hmac.new(key, path.encode("ascii") + digest, hashlib.sha512).digest()).decode("ascii")
